"""Put a saved run on the Hub, through huggingface_hub's own client: one commit, private unless asked otherwise."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, Final

from zoo.adapt.record import ASSETS, HISTORY, RUN, read_history, read_record
from zoo.adapt.saved import read_assets
from zoo.catalog import licenses
from zoo.errors import DownloadError, NotFoundError, UsageError, ZooError
from zoo.report.card import model_card, teachers_warnings
from zoo.settings import Settings
from zoo.weights import hub
from zoo.weights.files import disk_errors, hash_file
from zoo.weights.header import read_header

if TYPE_CHECKING:
    from zoo.adapt.learner import Learner

_TENSORS: Final = "model.safetensors"
_CARD: Final = "README.md"
#: As huggingface_hub's own rule for names, and never a path.
_NAME: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
_REPO: Final = re.compile(rf"{_NAME}/{_NAME}")
#: What the Hub itself puts into a new repository.
_ITS_OWN: Final = frozenset({".gitattributes"})
#: What is answered, if anything, by who does not know what became of a request.
_UNHEARD: Final = (None, 408, 500, 502, 504)
#: Between the parts of a path; a part that another follows, which may hold blanks; the last part.
_SEP: Final = r"[/\\]+"
_PART: Final = r"""[^\s/\\"`,;:](?:(?:[^/\\"`;:\r\n]|:(?!\s))*[^\s/\\'"`,;:])?"""
_END: Final = r"""[^\s/\\'"`,;:()\[\]{}]+"""
#: A path that begins at a root, at somebody's home, or above where the fit ran. What is relative else tells nothing.
_PATH: Final = (
    r"(?<![\w/\\.~)])(?:file://[\w.-]*(?=/))?"
    rf"(?:(?:~[\w.-]*|[A-Za-z]:|\.\.?){_SEP}(?:{_PART}{_SEP})*(?:{_END})?|{_SEP}(?:{_PART}{_SEP})+(?:{_END})?)"
)
_ADDRESS: Final = r"""\b(?!file:)[A-Za-z][A-Za-z0-9+.-]*://[^\s'"`<>]+"""


@dataclass(frozen=True)
class PushedFile:
    """One file of the repository.

    Attributes:
        path: in the repository.
        bytes: its size.
        sha256: of its content.
    """

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Pushed:
    """What a push did, or would do.

    Attributes:
        repo: the repository, `owner/name`.
        url: of its page.
        revision: the commit, 40 hex digits; None for a dry run.
        private: whether only its owner can see it.
        files: what lies there now.
        notes: sentences the user should read.
    """

    repo: str
    url: str
    revision: str | None
    private: bool
    files: tuple[PushedFile, ...]
    notes: tuple[str, ...] = ()


def push(
    run: str | Path,
    repo: str,
    *,
    private: bool = True,
    replace: bool = False,
    dry_run: bool = False,
    settings: Settings | None = None,
    bars: bool = False,
) -> Pushed:
    """Put run.json, model.safetensors, history.jsonl, the model card and the assets of a run into a model repository.

    Nothing else goes: no checkpoint, no report, no sample. Paths of this machine are cut down to their last part in
    what goes, and addresses lose their query and who asks. It is one commit: the repository has all of the run, or
    what it had before.

    Args:
        run: the folder of a fit that ended.
        repo: `owner/name`; made where there is none.
        private: make it a private repository. One that is there already is never made private or public by this.
        replace: write into a repository that holds something else than a run.
        dry_run: only say what would go; no request is sent, and no token is needed.
        settings: None = as the environment says.
        bars: let huggingface_hub draw its progress bars.

    Raises:
        UsageError: no such name, no token, or a repository that holds something else, or that everybody can see while
            `private` is asked for.
        NotFoundError: no such run, or offline.
        IntegrityError: the run is damaged, or has not ended.
        DownloadError: the Hub cannot be reached, or refuses.
    """
    if not _REPO.fullmatch(repo) or "--" in repo or ".." in repo or repo.endswith(".git"):
        raise UsageError(f"{repo[:200]!r} is no name of a repository", hint="Write OWNER/NAME, for instance me/ants.")
    run, settings = Path(run), settings or Settings()
    record = read_record(run)
    history = read_history(run)
    read_header(run / _TENSORS)
    roots = _roots(run, record)
    record = {key: value if key == "task" else without_paths(value, roots) for key, value in record.items()}
    history = without_paths(history, roots)
    texts = {
        RUN: json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        HISTORY: "".join(json.dumps(epoch) + "\n" for epoch in history),
        _CARD: model_card(record, repo),
    }
    content: dict[str, bytes | Path] = {name: text.encode() for name, text in texts.items()}
    content[_TENSORS] = run / _TENSORS
    for name, asset in read_assets(run, record).items():
        content[f"{ASSETS}/{name}"] = asset
    files = tuple(_fact(name, content[name]) for name in sorted(content))
    url = f"{hub.endpoint()}/{repo}"
    revision = None
    if not dry_run:
        revision, private = _upload(repo, content, private, replace, settings, bars)
    return Pushed(repo, url, revision, private, files, tuple(_notes(record, private)))


def push_learner(learner: Learner, repo: str, **options: Any) -> Pushed:
    """The same for a fitted learner, which is saved on the way."""
    with disk_errors("write", Path(tempfile.gettempdir())):
        folder = Path(tempfile.mkdtemp(prefix="zoo-push-"))
    try:
        learner.save(folder / "run")
        return push(folder / "run", repo, settings=learner.registry.settings, **options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def without_paths(value: Any, roots: Sequence[str] = ()) -> Any:
    """A JSON value in which every path of this machine is cut down to its last part, and no address has a secret.

    Args:
        roots: folders that are found whatever is in their names.
    """
    if isinstance(value, dict):
        return {key: without_paths(item, roots) for key, item in value.items()}
    if isinstance(value, list):
        return [without_paths(item, roots) for item in value]
    if not isinstance(value, str):
        return value
    text = value.removeprefix("file:")
    if text.startswith("~") or PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute():
        return _last(text)
    known = "|".join(re.escape(root) for root in sorted(roots, key=len, reverse=True)) or "(?!)"
    below = rf"(?<![\w/\\.~])(?:{known})(?![\w-])(?:{_SEP}{_PART}(?=[/\\]))*(?:{_SEP}(?:{_END})?)?"
    return re.sub(rf"(?P<address>{_ADDRESS})|{below}|{_PATH}", _cut, value)


def _cut(found: re.Match[str]) -> str:
    if found["address"] is None:
        return _last(found[0])
    return re.sub(r"(?<=://)[^/]*@", "", re.split(r"[?#]", found[0])[0])


def _roots(run: Path, record: dict[str, Any]) -> list[str]:
    """The folders of this machine that a run may speak of."""
    data = record.get("call", {}).get("data")
    found = [Path.home(), Path.cwd(), run.absolute(), *([Path(data)] if isinstance(data, str) else [])]
    return [str(path) for path in found if path.is_absolute() and path != Path(path.anchor)]


def _last(path: str) -> str:
    if path.rstrip("/\\") == str(Path.home()):  # its last part is somebody's name
        return "~"
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def _fact(name: str, content: bytes | Path) -> PushedFile:
    if isinstance(content, Path):
        with disk_errors("read", content):
            return PushedFile(name, content.stat().st_size, hash_file(content))
    return PushedFile(name, len(content), hashlib.sha256(content).hexdigest())


def _notes(record: dict[str, Any], private: bool) -> Iterator[str]:
    composition = record["composition"]
    if weights := composition["weights"]:
        if (warning := licenses.warning(weights["license"])) is not None:
            yield f"{weights['name']}: {warning}"
        if not composition["embedded"]:
            yield f"the run holds only what differs from {weights['name']}: who loads it needs these weights too"
    yield from teachers_warnings(record)
    if not private:
        yield "everybody can see this repository, its class names and its figures included"


def _upload(
    repo: str, content: dict[str, bytes | Path], private: bool, replace: bool, settings: Settings, bars: bool
) -> tuple[str, bool]:
    """The commit, and whether the repository is private."""
    if settings.offline:
        raise NotFoundError(
            "the zoo is offline, and the Hub is not here",
            hint="Push when connected (without --offline, ZOO_OFFLINE and HF_HUB_OFFLINE); --dry-run needs no network.",
        )
    token = hub.token()
    if token is None:
        raise UsageError(
            "no token to write to the Hub with",
            hint="Set HF_TOKEN, or run `hf auth login`; the token needs the permission to write.",
        )
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(endpoint=hub.endpoint(), token=token.secret, library_name="zoo")
    made, parent = False, None
    with _quiet(bars), _refusals(repo) as state:
        found = _look(api, repo)
        if found is None:
            api.create_repo(repo, private=private)
            made = True
        else:
            _expect_place(found, repo, private, replace)
            private, parent = bool(found.private), found.sha
        state["made"] = made
        operations = [
            CommitOperationAdd(name, value if isinstance(value, bytes) else str(value))
            for name, value in sorted(content.items())
        ]
        api.preupload_lfs_files(repo, operations)  # what takes long, and changes nothing there
        state["sent"] = True
        done = api.create_commit(repo, operations, commit_message="Upload a run of zoo", parent_commit=parent)
    return str(done.oid), private


def _look(api: Any, repo: str) -> Any:
    """What the Hub says of the repository; None where it shows none."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return api.model_info(repo)
    except GatedRepoError:
        raise
    except RepositoryNotFoundError as error:
        if error.response is not None and error.response.status_code == 404:
            return None
        raise


def _expect_place(found: Any, repo: str, private: bool, replace: bool) -> None:
    """Raise `UsageError` where the repository is not one to push this run into."""
    if private and not found.private:
        raise UsageError(
            f"{repo} is there already, and everybody can see it",
            hint="Say --public (private=False) to push into it, or choose another name.",
        )
    names = {sibling.rfilename for sibling in found.siblings or ()} - _ITS_OWN
    if names and RUN not in names and not replace:
        raise UsageError(
            f"{repo} is there already, and holds no run",
            why=f"It has {', '.join(sorted(names)[:5])}{' ...' if len(names) > 5 else ''}.",
            hint="Choose another name, or say --replace (replace=True) to write into it.",
        )


@contextmanager
def _quiet(bars: bool) -> Iterator[None]:
    """Leave huggingface_hub's bars out."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if bars or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


@contextmanager
def _refusals(repo: str) -> Iterator[dict[str, bool]]:
    """Turn what huggingface_hub raises into an error that says what to do, and what the Hub has now."""
    state = {"made": False, "sent": False}
    try:
        yield state
    except ZooError:
        raise
    except Exception as error:
        status, said = _cause(error)
        left = f"{repo} was made and is empty." if state["made"] else f"{repo} is as it was."
        if state["sent"] and status in _UNHEARD:
            raise DownloadError(
                f"it is not known whether the run was pushed to {repo}",
                why=f"{said}\nThe commit was sent, and no answer came: it was made whole or not at all.",
                hint=f"Look at {hub.endpoint()}/{repo}, then push again if need be.",
            ) from error
        if status in (401, 403):
            raise DownloadError(
                f"the Hub does not let you write to {repo} (status {status})",
                why=f"{said}\n{left}",
                hint="HF_TOKEN must be a token with the permission to write there.",
            ) from error
        if status in (409, 412):
            raise DownloadError(
                f"somebody else changed {repo} at the same time (status {status})",
                why=left,
                hint="Look at what is there, then push again.",
            ) from error
        raise DownloadError(
            f"the run could not be pushed to {repo}",
            why=f"{said}\n{left}",
            hint="Push again when the Hub can be reached: a commit is made whole or not at all.",
        ) from error


def _cause(error: BaseException) -> tuple[int | None, str]:
    """The status of the first refusal behind an error, and what it says in one line."""
    said = f"{type(error).__name__}: {error}"
    step: BaseException | None = error
    while step is not None:
        response = getattr(step, "response", None)
        if (status := getattr(response, "status_code", None)) is not None:
            return int(status), " ".join(str(step).split())[:300]
        said, step = f"{type(step).__name__}: {step}", step.__cause__
    return None, " ".join(said.split())[:300]
