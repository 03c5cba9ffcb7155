"""What a `zoo.testing.FakeHub` answers to those who write: repositories, large files and commits.

As the Hub does it for huggingface_hub without its Xet storage (`HF_HUB_DISABLE_XET=1`): a repository is created, each
file is asked about (`preupload`), large ones are sent by the Git LFS protocol, and one commit names them all. A commit
is made whole or not at all.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from zoo.testing.hub import FakeHub

_COMMIT: Final = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/(?P<what>preupload|commit)/(?P<revision>[^/]+)")
_BATCH: Final = re.compile(r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch")
_OBJECT: Final = re.compile(r"/lfs/(?P<oid>[0-9a-f]{64})")


class Answer(Exception):  # noqa: N818  (it is one)
    """A status, and a JSON value or headers.

    Args:
        status: of HTTP.
        value: the body; None = none.
        headers: beside the usual ones.
    """

    def __init__(self, status: int, value: Any = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status)
        self.status, self.value, self.headers = status, value, dict(headers or {})


def answer(hub: FakeHub, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
    """What to say to one POST or PUT.

    Args:
        hub: keeps the repositories.
        path: without its query.
        headers: their names in lower case.
    """
    try:
        if method == "PUT" and (found := _OBJECT.fullmatch(path)):
            return _take_object(hub, found["oid"], body)
        if not hub.may(headers):
            return Answer(401, {"error": "Invalid username or password."})
        given = _lines(body)
        if path == "/api/validate-yaml":
            return Answer(200, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return _create(hub, given[0])
        if found := _BATCH.fullmatch(path):
            return _batch(hub, found["repo"], given[0])
        if found := _COMMIT.fullmatch(path):
            if not hub._knows(found["repo"]):
                return Answer(404, None, {"X-Error-Code": "RepoNotFound"})
            step = _preupload if found["what"] == "preupload" else _commit
            return step(hub, found["repo"], given)
    except Answer as refusal:
        return refusal
    return Answer(404)


def _lines(body: bytes) -> list[Any]:
    """The values of a JSON document, or of one on each line."""
    return [json.loads(line) for line in body.splitlines() if line.strip()] or [{}]


def _create(hub: FakeHub, given: Mapping[str, Any]) -> Answer:
    repo = "/".join(part for part in (given.get("organization") or hub.user, given["name"]) if part)
    if hub.fault == "taken" or hub._knows(repo):
        return Answer(409, {"error": "You already created this model repo", "url": f"{hub.url}/{repo}"})
    private = given.get("visibility") == "private" or bool(given.get("private"))
    hub.make(repo, private=private)
    return Answer(200, {"url": f"{hub.url}/{repo}", "name": repo, "private": private})


def _preupload(hub: FakeHub, repo: str, given: list[Any]) -> Answer:
    rows = [
        {
            "path": file["path"],
            "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
            "shouldIgnore": False,
        }
        for file in given[0]["files"]
    ]
    return Answer(200, {"files": rows})


def _batch(hub: FakeHub, repo: str, given: Mapping[str, Any]) -> Answer:
    objects = []
    for wanted in given["objects"]:
        entry = {"oid": wanted["oid"], "size": wanted["size"]}
        if wanted["oid"] not in hub.objects:
            entry["actions"] = {"upload": {"href": f"{hub.url}/lfs/{wanted['oid']}"}}
        objects.append(entry)
    return Answer(200, {"transfer": "basic", "objects": objects})


def _take_object(hub: FakeHub, oid: str, body: bytes) -> Answer:
    if hub.fault == "no-space":
        return Answer(507, {"error": "no space is left"})
    if hashlib.sha256(body).hexdigest() != oid:
        return Answer(400, {"error": "other bytes than were announced"})
    hub.objects[oid] = body
    return Answer(200)


def _commit(hub: FakeHub, repo: str, given: list[Any]) -> Answer:
    if hub.fault == "broken-commit":
        return Answer(503)
    header = next(item["value"] for item in given if item["key"] == "header")
    if hub.fault == "overtaken" or header.get("parentCommit") not in (None, hub.commit(repo)):
        return Answer(412, {"error": "a commit has happened since"})
    files: dict[str, bytes | None] = {}
    for item in given:
        value = item["value"]
        if item["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif item["key"] == "lfsFile":
            if value["oid"] not in hub.objects:
                return Answer(400, {"error": f"{value['path']} was never uploaded"})
            files[value["path"]] = hub.objects[value["oid"]]
        elif item["key"] == "deletedFile":
            files[value["path"]] = None
    commit = hub.change(repo, files)
    done = {"success": True, "commitOid": commit, "commitUrl": f"{hub.url}/{repo}/commit/{commit}"}
    return Answer(200, done)
