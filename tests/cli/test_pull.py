"""`zoo pull`: what is resolved, planned, locked, updated, and said when it cannot be had."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import zoo
from zoo.models.tensors import write_tensors
from zoo.testing.hub import FakeHub
from zoo.testing.networks import Tiny

pytestmark = pytest.mark.usefixtures("tiny_plugin")


@pytest.fixture
def contents(tmp_path: Path) -> list[bytes]:
    """Three different files that fit the tiny network."""
    import torch

    found = []
    for seed in range(3):
        torch.manual_seed(seed)
        path = tmp_path / "file.safetensors"
        write_tensors(path, Tiny(num_classes=4).state_dict())
        found.append(path.read_bytes())
    path.unlink()
    return found


@dataclass
class Project:
    """A folder with a registry of three weights on a Hub, which is this test's own."""

    hub: FakeHub
    folder: Path
    cli: Callable[..., Any]

    def __call__(self, *args: Any) -> Any:
        return self.cli("--registry", self.folder / "registry.toml", *args)

    def lock(self) -> dict[str, Any]:
        path = self.folder / "zoo.lock"
        return tomllib.loads(path.read_text())["weights"] if path.exists() else {}


def entry(tag: str, *more: str) -> str:
    lines = [f'[weights."tiny.{tag}"]', 'backbone = "tiny"', f'source = "hf://me/{tag}@main/model.safetensors"', *more]
    return "\n".join(lines) + "\n"


@pytest.fixture
def project(
    cli: Callable[..., Any], tmp_path: Path, contents: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Project]:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "registry.toml").write_text(
        "schema = 1\n"
        + entry("a", "default = true", 'license = "mit"')
        + entry("b", 'license = "cc-by-nc-4.0"')
        + entry("c")
    )
    monkeypatch.delenv("ZOO_OFFLINE")
    with FakeHub() as hub:
        for tag, content in zip("abc", contents, strict=True):
            hub.add(f"me/{tag}", "model.safetensors", content)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield Project(hub, folder, cli)


def files(home: Path) -> list[str]:
    return sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())


def test_pinned_and_present_costs_no_request(project: Project) -> None:
    rows = project("pull", "tiny.a", "tiny.b", "--json").json
    assert [row["cached"] for row in rows] == [False, False]
    project.hub.forget()
    again = project("pull", "tiny.a", "tiny.b", "--json").json
    assert [row["cached"] for row in again] == [True, True]
    assert [row["sha256"] for row in again] == [row["sha256"] for row in rows]
    assert project("pull", "tiny.a", "--locked").code == 0
    assert project.hub.count() == 0


def test_globs_mean_defaults_or_tags(project: Project) -> None:
    assert [row["name"] for row in project("pull", "tin[y]", "--json").json] == ["tiny.a"]
    assert [row["name"] for row in project("pull", "tiny.*", "tiny.b", "--json").json] == ["tiny.a", "tiny.b", "tiny.c"]
    nothing = project("pull", "tiny.z*")
    assert nothing.code == 3
    assert "nothing with weights matches" in nothing.err


def test_all_names_are_resolved_first(project: Project, home: Path) -> None:
    assert project("pull", "tiny.a", "tiny.nope").code == 3
    assert project.hub.count() == 0
    assert files(home) == []


def test_one_that_fails_stops_not_the_others(project: Project) -> None:
    (project.folder / "registry.toml").write_text("schema = 1\n" + entry("a") + entry("gone") + entry("b"))
    said = project("pull", "tiny.a", "tiny.gone", "tiny.b", "--json")
    assert said.code == 3
    assert [row["name"] for row in said.json["done"]] == ["tiny.a", "tiny.b"]
    assert said.json["failed"] == ["tiny.gone"]
    assert "here now: tiny.a, tiny.b" in said.err
    assert sorted(project.lock()) == ["tiny.a", "tiny.b"]
    assert "tiny.b: its licence is not known" in said.err


def test_a_network_that_fails_stops_all(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.hub.fault = "unauthorized"
    said = project("pull", "tiny.a", "tiny.b")
    assert said.code == 4
    assert "not tried: tiny.b" in said.err


def test_a_dry_run_touches_nothing(project: Project, home: Path, contents: list[bytes]) -> None:
    said = project("pull", "tiny.*", "--dry-run", "--json")
    assert said.code == 0
    first = said.json[0]
    assert (first["bytes"], first["cached"], first["license"]) == (len(contents[0]), False, "mit")
    assert first["revision"] == project.hub.commit("me/a")
    assert first["source"] == f"hf://me/a@{first['revision']}/model.safetensors"
    assert Path(first["path"]) == home / "blobs" / "sha256" / first["sha256"][:2] / f"{first['sha256']}.safetensors"
    assert "allows no commercial use" in said.err
    assert project.hub.count("GET") == 0
    assert files(home) == []
    assert project.lock() == {}
    table = project("pull", "tiny.a", "--dry-run")
    assert "mit" in table.out
    assert "nothing was touched" in table.out
    project("pull", "tiny.a")
    project.hub.forget()
    (row,) = project("pull", "tiny.a", "--dry-run", "--json").json
    assert row["cached"]
    assert project.hub.count() == 0
    offline = project("--offline", "pull", "tiny.b", "--dry-run", "--json")
    assert (offline.code, offline.json[0]["bytes"]) == (0, None)


def test_locked_takes_what_is_pinned_or_nothing(project: Project, home: Path, contents: list[bytes]) -> None:
    said = project("pull", "tiny.a", "tiny.b", "--locked")
    assert said.code == 5
    assert "tiny.a" in said.err
    assert "tiny.b" in said.err
    assert project.hub.count() == 0
    assert files(home) == []
    project("pull", "tiny.a")
    before = (project.folder / "zoo.lock").read_bytes()
    for blob in (home / "blobs").rglob("*.safetensors"):
        blob.unlink()
    project.hub.add("me/a", "model.safetensors", contents[2])
    said = project("pull", "tiny.a", "--locked", "--json")
    assert Path(said.json[0]["path"]).read_bytes() == contents[0]
    assert "trusted" not in said.err
    assert (project.folder / "zoo.lock").read_bytes() == before


def test_what_the_registry_pins_needs_no_lock(project: Project, contents: list[bytes]) -> None:
    import hashlib

    pin = f'sha256 = "{hashlib.sha256(contents[0]).hexdigest()}"'
    (project.folder / "registry.toml").write_text("schema = 1\n" + entry("a", pin))
    assert project("pull", "tiny.a", "--locked").code == 0
    assert project.lock() == {}
    zero = 'sha256 = "' + "0" * 64 + '"'
    project("pull", "tiny.a")
    (project.folder / "registry.toml").write_text("schema = 1\n" + entry("a", zero))
    for flags in ([], ["--locked"], ["--dry-run"]):
        said = project("pull", "tiny.a", *flags)
        assert said.code == 5, flags


def test_an_update_says_what_changed(project: Project, contents: list[bytes], home: Path) -> None:
    (before,) = project("pull", "tiny.a", "--json").json
    (same,) = project("pull", "tiny.a", "--update", "--json").json
    assert same["previous"] is None
    project.hub.add("me/a", "model.safetensors", contents[2])
    (kept,) = project("pull", "tiny.a", "--json").json
    assert kept["sha256"] == before["sha256"]
    said = project("pull", "tiny.a", "--update", "--json")
    (after,) = said.json
    assert after["sha256"] != before["sha256"]
    assert after["previous"]["sha256"] == before["sha256"]
    assert f"{before['revision'][:12]} -> {after['revision'][:12]}" in said.err
    assert project.lock()["tiny.a"]["sha256"] == after["sha256"]
    assert project("pull", "tiny.a", "--update", "--locked").code == 2
    assert project("--offline", "pull", "tiny.a", "--update").code == 2


def test_terms_and_trust_are_said(project: Project) -> None:
    said = project("pull", "tiny.a", "tiny.b", "tiny.c")
    assert "tiny.b: the licence cc-by-nc-4.0 allows no commercial use" in said.err
    assert "tiny.c: its licence is not known" in said.err
    assert "tiny.a: no sha256 pins it: trusted on first use" in said.err
    assert "trusted" not in project("pull", "tiny.a").err
    assert "note" not in project("pull", "tiny.b", "-q").err


def test_an_automatic_pull_says_terms_once(project: Project, photos: Path) -> None:
    command = ("fit", photos, "-b", "tiny.b", "-s", "linear-probe", "--device", "cpu", "--json")
    said = project(*command, "-o", "one")
    assert said.code == 0, said.err
    assert "tiny.b: the licence cc-by-nc-4.0 allows no commercial use" in said.err
    assert "no commercial use" not in project(*command, "-o", "two").err


def test_show_says_terms_and_whether_it_is_here(project: Project) -> None:
    before = project("show", "tiny.b", "--json")
    assert (before.json["license"], before.json["pulled"]) == ("cc-by-nc-4.0", False)
    assert "allows no commercial use" in before.err
    project("pull", "tiny.b")
    assert project("show", "tiny.b", "--json").json["pulled"] is True
    assert "cc-by-nc-4.0" in project("show", "tiny.b").out
    names = [row["name"] for row in project("list", "--license", "cc-by-nc*", "--pulled", "--json").json]
    assert names == ["tiny"]


def test_offline_says_what_is_here(project: Project) -> None:
    project("pull", "tiny.a")
    said = project("--offline", "pull", "tiny.b", "--json")
    assert said.code == 3
    assert "On this disk are other weights of tiny: tiny.a." in said.err
    assert "zoo pull tiny.b" in said.json["error"]["hint"]
    assert "zoo cache add" in said.json["error"]["hint"]


def test_offline_fails_at_once(project: Project) -> None:
    command = [sys.executable, "-m", "zoo", "--registry", str(project.folder / "registry.toml"), "pull", "tiny.b"]
    environment = {**os.environ, "ZOO_OFFLINE": "1", "HF_ENDPOINT": "http://192.0.2.1"}
    start = time.process_time()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert done.returncode == 3
    assert "zoo pull tiny.b" in done.stderr
    assert time.process_time() - start < 5  # of this process: nothing was waited for in a loop
    assert "torch" not in done.stderr


def test_the_python_face(project: Project, monkeypatch: pytest.MonkeyPatch, contents: list[bytes]) -> None:
    monkeypatch.setenv("ZOO_REGISTRY", str(project.folder / "registry.toml"))
    from zoo.catalog.registry import reset_default

    reset_default()
    with pytest.raises(zoo.IntegrityError, match="not as pinned"):
        zoo.pull("tiny", locked=True)
    assert zoo.list_backbones("tiny", pulled=True) == []
    assert zoo.pull("tiny").read_bytes() == contents[0]
    assert [one.name for one in zoo.list_backbones("tiny", pulled=True)] == ["tiny"]
    project.hub.add("me/a", "model.safetensors", contents[1])
    assert zoo.pull("tiny").read_bytes() == contents[0]
    assert zoo.pull("tiny", update=True).read_bytes() == contents[1]
    project.hub.forget()
    assert zoo.pull("tiny", locked=True, offline=True).read_bytes() == contents[1]
    assert project.hub.count() == 0


def test_python_says_terms_and_waits(
    project: Project, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ZOO_REGISTRY", str(project.folder / "registry.toml"))
    from zoo.catalog.registry import reset_default

    reset_default()
    project.hub.fault, project.hub.times = "broken-get", 2
    zoo.load_backbone("tiny.b", accelerator="cpu")
    said = [record.getMessage() for record in caplog.records if record.name == "zoo"]
    assert any("answered 503; next attempt" in text for text in said)
    assert "tiny.b: the licence cc-by-nc-4.0 allows no commercial use" in said
    caplog.clear()
    project.hub.fault = None
    zoo.pull("tiny.b")
    assert not caplog.records
    zoo.pull("tiny.c")
    assert any("tiny.c: its licence is not known" in record.getMessage() for record in caplog.records)


def test_of_many_names_the_first_are_said(project: Project) -> None:
    (project.folder / "registry.toml").write_text("schema = 1\n" + "".join(entry(f"t{n}") for n in range(40)))
    said = project("pull", "tiny.t*", "--locked")
    assert said.code == 5
    assert "and 30 more" in said.err
    assert said.err.count("tiny.t") == 20


def test_an_automatic_pull_writes_the_lock_only_where_nothing_is_pinned(
    project: Project, contents: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib

    pin = f'sha256 = "{hashlib.sha256(contents[0]).hexdigest()}"'
    (project.folder / "registry.toml").write_text("schema = 1\n" + entry("a", pin) + entry("b"))
    monkeypatch.setenv("ZOO_REGISTRY", str(project.folder / "registry.toml"))
    from zoo.catalog.registry import reset_default

    reset_default()
    zoo.load_backbone("tiny.a")
    assert project.lock() == {}
    zoo.load_backbone("tiny.b")
    assert list(project.lock()) == ["tiny.b"]


@pytest.mark.parametrize(
    ("change", "line", "word"),
    [
        (("schema = 1", "schema = 9"), 2, "schema"),
        (("revision", "revison"), None, "did you mean 'revision'"),
        (('sha256 = "', 'sha256 = "x'), None, "64 hex digits"),
        (("@", "@main-"), None, "commit"),
        (("model.safetensors", "model.bin"), None, "file is"),
        (('format = "safetensors"', 'format = "pickle"'), None, "converted_sha256"),
        (("bytes = ", "bytes = -"), None, "not a size"),
        (('[weights."tiny.a"]', '[weights."tiny"]'), None, "name"),
    ],
)
def test_a_tampered_lock_is_named(project: Project, change: tuple[str, str], line: int | None, word: str) -> None:
    project("pull", "tiny.a")
    path = project.folder / "zoo.lock"
    path.write_text(path.read_text().replace(*change, 1))
    before = path.read_bytes()
    said = project("pull", "tiny.a")
    assert said.code == 5
    assert str(path) in said.err
    assert f"line {line}" in said.err if line else "line " in said.err
    assert word in said.err
    assert path.read_bytes() == before
    assert project("pull", "tiny.b").code == 5
    assert path.read_bytes() == before


def test_processes_that_pull_different_names_lose_no_entry(project: Project, tiny_plugin: str) -> None:
    command = [sys.executable, "-m", "zoo", "--registry", str(project.folder / "registry.toml"), "pull"]
    running = [subprocess.Popen([*command, f"tiny.{tag}", "-q"], stdout=subprocess.DEVNULL) for tag in "abc"]
    assert [one.wait(120) for one in running] == [0, 0, 0]
    assert sorted(project.lock()) == ["tiny.a", "tiny.b", "tiny.c"]


def test_another_projects_pull_needs_no_request_and_has_its_own_lock(project: Project, tmp_path: Path) -> None:
    project("pull", "tiny.a")
    project.hub.forget()
    other = tmp_path / "other"
    other.mkdir()
    (other / "registry.toml").write_bytes((project.folder / "registry.toml").read_bytes())
    (row,) = project.cli("--registry", other / "registry.toml", "pull", "tiny.a", "--json").json
    assert row["cached"]
    assert project.hub.count("GET") == 0
    assert (other / "zoo.lock").read_bytes() == (project.folder / "zoo.lock").read_bytes()


def test_offline_a_pin_of_the_registry_is_enough(project: Project, home: Path) -> None:
    (pulled,) = project("pull", "tiny.b", "--json").json
    lock = project.folder / "zoo.lock"
    lock.unlink()
    (home / "roots.json").unlink()
    (project.folder / "registry.toml").write_text("schema = 1\n" + entry("b", f'sha256 = "{pulled["sha256"]}"'))
    assert project("--offline", "pull", "tiny.b", "--json").json[0]["path"] == pulled["path"]
    assert not lock.exists()  # nobody here knows the commit, which belongs there
    assert project("--offline", "verify").code == 0


@pytest.mark.parametrize("verb", ["pull", "fit"])
def test_offline_what_another_project_pulled_is_here(project: Project, tmp_path: Path, photos: Path, verb: str) -> None:
    (pulled,) = project("pull", "tiny.b", "--json").json
    other = tmp_path / "other"
    other.mkdir()
    (other / "registry.toml").write_bytes((project.folder / "registry.toml").read_bytes())
    offline = ("--offline", "--registry", other / "registry.toml")
    assert project.cli(*offline, "pull", "tiny.b", "--dry-run", "--json").json[0]["cached"]
    assert [row["name"] for row in project.cli(*offline, "list", "--pulled", "--json").json] == ["tiny"]
    assert project.cli(*offline, "verify", "tiny.b").code == 0
    assert project.cli(*offline, "pull", "tiny.b", "--locked").code == 5
    if verb == "pull":
        assert project.cli(*offline, "pull", "tiny.b", "--json").json == [{**pulled, "cached": True}]
    else:
        fit = ("fit", photos, "-b", "tiny.b", "-s", "linear-probe", "--device", "cpu", "-o", other / "run")
        assert project.cli(*offline, *fit).code == 0
    assert (other / "zoo.lock").read_bytes() == (project.folder / "zoo.lock").read_bytes()
    assert project.cli(*offline, "pull", "tiny.b", "--locked").code == 0
    # What the lock here says is not overruled by another's.
    lock = (other / "zoo.lock").read_text()
    (other / "zoo.lock").write_text(lock.replace(pulled["sha256"], "0" * 64))
    assert project.cli(*offline, "pull", "tiny.b").code == 3


def test_the_damaged_lock_of_another_project_is_no_trouble_here(project: Project, tmp_path: Path) -> None:
    project("pull", "tiny.a")
    other = tmp_path / "other"
    other.mkdir()
    (other / "registry.toml").write_bytes((project.folder / "registry.toml").read_bytes())
    (project.folder / "zoo.lock").write_text("nonsense")
    assert project.cli("--registry", other / "registry.toml", "pull", "tiny.a").code == 0
    (digest,) = (entry["sha256"] for entry in tomllib.loads((other / "zoo.lock").read_text())["weights"].values())
    pinned = (
        (other / "registry.toml").read_text().replace('license = "mit"', f'license = "mit"\nsha256 = "{digest}"', 1)
    )
    (other / "registry.toml").write_text(pinned)
    (other / "zoo.lock").unlink()
    assert project.cli("--registry", other / "registry.toml", "pull", "tiny.a").code == 0
