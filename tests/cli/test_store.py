"""verify, rm, cache ls / gc / add, and `pull --to`: what is on this disk, and how it gets to another one."""

from __future__ import annotations

import hashlib
import json
import os
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from zoo.models.tensors import write_tensors
from zoo.testing.hub import FakeHub
from zoo.testing.networks import Tiny

pytestmark = pytest.mark.usefixtures("tiny_plugin")


def content(folder: Path, seed: int, value: float | None = None) -> bytes:
    """A file that fits the tiny network; different for each seed."""
    torch.manual_seed(seed)
    state = Tiny(num_classes=4).state_dict()
    if value is not None:
        next(iter(state.values())).view(-1)[0] = value
    write_tensors(folder / "content.safetensors", state)
    return (folder / "content.safetensors").read_bytes()


def entry(tag: str, *more: str) -> str:
    lines = [f'[weights."tiny.{tag}"]', 'backbone = "tiny"', f'source = "hf://me/{tag}@main/model.safetensors"', *more]
    return "\n".join(lines) + "\n"


@dataclass
class Machine:
    """A home, a registry on it, and the command line."""

    home: Path
    registry: Path
    cli: Callable[..., Any]
    environment: pytest.MonkeyPatch = field(repr=False)

    def __call__(self, *args: Any) -> Any:
        self.environment.setenv("ZOO_HOME", str(self.home))
        return self.cli("--registry", self.registry, *args)

    def blob(self, sha256: str) -> Path:
        return self.home / "blobs" / "sha256" / sha256[:2] / f"{sha256}.safetensors"

    def blobs(self) -> list[str]:
        return sorted(path.stem for path in (self.home / "blobs" / "sha256").rglob("*.safetensors"))

    def age(self) -> None:
        """Let a day pass for every file of the store."""
        for path in (self.home / "blobs").rglob("*"):
            os.utime(path, (time.time() - 86_400,) * 2)

    def forget(self) -> None:
        """Forget what hashes.json remembers, as a new machine does."""
        (self.home / "hashes.json").unlink(missing_ok=True)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.delenv("ZOO_OFFLINE")
    with FakeHub() as server:
        for seed, tag in enumerate("abc"):
            server.add(f"me/{tag}", "model.safetensors", content(tmp_path, seed))
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def machine(
    cli: Callable[..., Any], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Machine]:
    def make(name: str) -> Machine:
        folder = tmp_path / f"machine-{name}"
        folder.mkdir()
        (folder / "registry.toml").write_text(
            "schema = 1\n" + entry("a", "default = true", 'license = "mit"') + entry("b") + entry("c")
        )
        return Machine(folder / "home", folder / "registry.toml", cli, monkeypatch)

    return make


@pytest.fixture
def here(machine: Callable[[str], Machine], hub: FakeHub) -> Machine:
    return machine("here")


# -- verify ------------------------------------------------------------------------------------------------------------


def test_a_sound_store(here: Machine) -> None:
    assert here("verify").code == 0
    rows = here("pull", "tiny.a", "tiny.b", "--json").json
    said = here("verify", "--json")
    assert said.code == 0
    assert (said.json["ok"], said.json["damaged"], said.json["absent"]) == (2, 0, 0)
    assert sorted(row["sha256"] for row in said.json["checked"]) == sorted(row["sha256"] for row in rows)
    assert sorted(name for row in said.json["checked"] for name in row["names"]) == ["tiny.a", "tiny.b"]
    assert "2 of 2 sound" in here("verify").out
    assert here("verify", "tin*", "--json").json["ok"] == 2
    assert here("verify", "tiny.c*").code == 3


def test_every_damaged_file_is_listed_and_kept(here: Machine, tmp_path: Path) -> None:
    rows = here("pull", "tiny.*", "--json").json
    flipped, cut, _ = (here.blob(row["sha256"]) for row in rows)
    raw = bytearray(flipped.read_bytes())
    raw[-1] ^= 1
    flipped.write_bytes(raw)
    cut.write_bytes(cut.read_bytes()[:-4])
    said = here("verify", "--json")
    assert said.code == 5
    assert said.json["error"]["code"] == "integrity"
    states = {name: row["state"] for row in said.json["checked"] for name in row["names"]}
    assert states == {"tiny.a": "damaged", "tiny.b": "damaged", "tiny.c": "ok"}
    assert "2 files are damaged" in said.err
    assert "tiny.a" in said.err
    assert "tiny.b" in said.err
    assert flipped.exists()
    assert cut.exists()
    assert here("verify", "tiny.c").code == 0
    assert here("verify", "tiny.a", "tiny.c").code == 5
    assert here("rm", "tiny.a", "tiny.b").code == 0
    assert here("pull", "tiny.a", "tiny.b").code == 0
    assert here("verify").code == 0


def test_numbers_that_are_none_are_found(here: Machine, hub: FakeHub, tmp_path: Path) -> None:
    hub.add("me/a", "model.safetensors", content(tmp_path, 7, float("nan")))
    here("pull", "tiny.a")
    said = here("verify", "--json")
    assert said.code == 5
    assert "not finite" in said.json["checked"][0]["why"]


def test_what_the_lock_promises_and_is_not_here(here: Machine) -> None:
    (row, _) = here("pull", "tiny.a", "tiny.b", "--json").json
    here.blob(row["sha256"]).unlink()
    said = here("verify", "--json")
    assert said.code == 3
    (absent,) = (row for row in said.json["checked"] if row["state"] == "absent")
    assert absent["names"] == ["tiny.a"]
    assert "zoo pull tiny.a" in said.json["error"]["hint"]
    assert here("verify", "tiny.a").code == 3
    assert here("verify", "tiny.c").code == 3
    assert here("verify", "tiny.nope").code == 3


def test_files_of_registries_against_their_pins(here: Machine, tmp_path: Path) -> None:
    file = here.registry.with_name("mine.safetensors")
    file.write_bytes(content(tmp_path, 5))
    text = (
        'schema = 1\n[weights."tiny.mine"]\nbackbone = "tiny"\nsource = "file:mine.safetensors"\n'
        f'sha256 = "{hashlib.sha256(file.read_bytes()).hexdigest()}"\n'
    )
    here.registry.write_text(text)
    assert here("verify").code == 0
    # Same size, and the same time: only the bytes tell.
    stat = file.stat()
    file.write_bytes(content(tmp_path, 6))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert here("verify").code == 5
    assert here("verify", "tiny.mine").code == 5
    file.unlink()
    assert here("verify").code == 3


def test_the_python_face(here: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = here("pull", "tiny.a", "--json").json
    monkeypatch.setenv("ZOO_REGISTRY", str(here.registry))
    from zoo.catalog.registry import reset_default

    reset_default()
    assert zoo.verify()["ok"] == 1
    here.blob(row["sha256"]).write_bytes(b"x")
    assert zoo.verify("tiny.a")["checked"][0]["state"] == "damaged"


# -- rm, ls, gc --------------------------------------------------------------------------------------------------------


def test_rm_removes_what_is_here_and_refuses_the_rest(here: Machine) -> None:
    here("pull", "tiny.a", "tiny.b")
    for names in (["tiny.c"], ["tiny.a", "tiny.c"], ["tiny.nope"], ["tiny.z*"]):
        said = here("rm", *names)
        assert said.code == 3, names
        assert len(here.blobs()) == 2
    said = here("rm", "tiny.a", "--json")
    assert said.code == 0
    assert said.json["freed"] > 0
    assert "still pins it" in said.err
    assert len(here.blobs()) == 1
    assert here("rm", "tiny.a").code == 3
    assert here("list", "tiny", "--pulled", "--json").json
    assert here("rm", "tiny.*").code == 0
    assert here.blobs() == []
    assert here("list", "tiny", "--pulled", "--json").json == []


def test_a_file_that_two_names_need_stays(here: Machine, hub: FakeHub, tmp_path: Path) -> None:
    hub.add("me/b", "model.safetensors", content(tmp_path, 0))
    here("pull", "tiny.a", "tiny.b")
    assert len(here.blobs()) == 1
    said = here("rm", "tiny.a", "--json")
    assert said.json["removed"][0]["kept_for"] == ["tiny.b"]
    assert "its file stays, tiny.b needs it" in said.err
    assert len(here.blobs()) == 1
    assert here("rm", "tiny.a", "tiny.b").code == 0
    assert here.blobs() == []


def test_rm_of_registered_weights_takes_the_name_too(here: Machine, tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").write_bytes(content(tmp_path, 8))
    for tag in ("mine", "twin"):
        assert here("register", tmp_path / "mine.safetensors", "--backbone", "tiny", "--name", f"tiny.{tag}").code == 0
    said = here("rm", "tiny.mine", "--json")
    assert said.json["removed"][0]["kept_for"] == ["tiny.twin"]
    assert said.json["removed"][0]["registry"] == str(here.home / "registry.toml")
    assert here("show", "tiny.mine").code == 3
    assert len(here.blobs()) == 1
    # A name whose file somebody deleted by hand can still be taken out.
    here.blob(here.blobs()[0]).unlink()
    assert here("rm", "tiny.twin").code == 0
    assert here("show", "tiny.twin").code == 3


def test_rm_leaves_files_that_are_not_the_stores(here: Machine, tmp_path: Path) -> None:
    file = here.registry.with_name("mine.safetensors")
    file.write_bytes(content(tmp_path, 5))
    here.registry.write_text('schema = 1\n[weights."tiny.mine"]\nbackbone = "tiny"\nsource = "file:mine.safetensors"\n')
    said = here("rm", "tiny.mine")
    assert said.code == 2
    assert file.exists()


def test_ls_says_who_needs_what(here: Machine) -> None:
    assert here("cache", "ls", "--json").json["blobs"] == []
    here("pull", "tiny.a", "tiny.b")
    here.registry.with_name("zoo.lock").unlink()
    here("pull", "tiny.b")
    found = here("cache", "ls", "--json").json
    assert {tuple(row["names"]): row["orphan"] for row in found["blobs"]} == {("tiny.b",): False, (): True}
    assert found["orphans"] == 1
    assert found["bytes"] == sum(row["bytes"] for row in found["blobs"])
    assert "nobody" in here("cache", "ls").out


def test_gc_removes_what_nobody_needs(here: Machine, machine: Callable[[str], Machine], tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").write_bytes(content(tmp_path, 8))
    here("register", tmp_path / "mine.safetensors", "--backbone", "tiny", "--name", "tiny.mine")
    (a, b) = here("pull", "tiny.a", "tiny.b", "--json").json
    here.registry.with_name("zoo.lock").unlink()
    here("pull", "tiny.b")
    assert "younger" in here("cache", "gc").err
    assert len(here.blobs()) == 3
    here.age()
    would = here("cache", "gc", "--dry-run", "--json").json
    assert [row["sha256"] for row in would["removed"]] == [a["sha256"]]
    assert len(here.blobs()) == 3
    # From another folder, with another registry: what the first project pulled is still needed.
    other = machine("other")
    other.home = here.home
    done = other("cache", "gc", "--json").json
    assert [row["sha256"] for row in done["removed"]] == [a["sha256"]]
    assert done["freed"] == a["bytes"]
    assert b["sha256"] in here.blobs()
    assert len(here.blobs()) == 2
    assert here("verify").code == 0
    # A project that is gone needs nothing.
    here.registry.with_name("zoo.lock").unlink()
    assert [row["sha256"] for row in other("cache", "gc", "--json").json["removed"]] == [b["sha256"]]


def test_gc_removes_what_killed_programs_left(here: Machine) -> None:
    here("pull", "tiny.a")
    parts = here.home / "blobs" / "parts"
    parts.mkdir(exist_ok=True)
    (parts / "add-0123.part").write_bytes(b"x" * 10)
    (here.home / "publish-abc").mkdir()
    (here.home / "publish-abc" / "model.safetensors").write_bytes(b"y" * 5)
    here.age()
    os.utime(here.home / "publish-abc", (1, 1))
    would = here("cache", "gc", "--dry-run", "--json").json
    assert would["freed"] == 15
    assert (parts / "add-0123.part").exists()
    assert here("cache", "gc", "--json").json["freed"] == 15
    assert not (parts / "add-0123.part").exists()
    assert not (here.home / "publish-abc").exists()
    assert len(here.blobs()) == 1


def test_gc_removes_nothing_while_a_lock_is_damaged(here: Machine) -> None:
    here("pull", "tiny.a")
    here.age()
    here.registry.with_name("zoo.lock").write_text("nonsense")
    assert here("cache", "gc").code == 5
    assert len(here.blobs()) == 1


def test_gc_removes_nothing_while_a_plugin_fails(here: Machine, tmp_path: Path) -> None:
    here("pull", "tiny.a")
    here.registry.with_name("zoo.lock").unlink()
    here.age()
    broken = tmp_path / "plugins" / "broken.py"
    broken.write_text("raise ValueError('not today')\n")
    said = here("cache", "gc")
    assert said.code == 1
    assert "not today" in said.err
    assert len(here.blobs()) == 1
    assert here("-p", "no:broken", "cache", "gc").code == 0
    assert here.blobs() == []


def test_features_are_listed_and_trimmed(here: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2):
        folder = here.home / "features" / f"{number:064x}"
        folder.mkdir(parents=True)
        (folder / "space.json").write_text(json.dumps({"schema": 1, "facts": {"backbone": f"net{number}"}}))
        (folder / "shard.safetensors").write_bytes(b"x" * 1000)
        os.utime(folder / "space.json", (number * 1000, number * 1000))
    found = here("cache", "ls", "--json").json
    assert [row["backbone"] for row in found["features"]] == ["net2", "net1"]
    assert found["features_bytes"] == sum(row["bytes"] for row in found["features"])
    assert "net1" in here("cache", "ls").out
    assert here("cache", "gc", "--json").json["features"] == []
    monkeypatch.setenv("ZOO_FEATURES_LIMIT", "1500")
    would = here("cache", "gc", "--dry-run", "--json").json
    assert [row["backbone"] for row in would["features"]] == ["net1"]
    assert len(list((here.home / "features").iterdir())) == 2
    assert here("cache", "gc", "--json").json["freed"] == would["freed"] > 1000
    assert [path.name for path in (here.home / "features").iterdir()] == [f"{2:064x}"]
    assert here("cache", "gc", "--features").code == 0
    assert list((here.home / "features").iterdir()) == []


def test_a_run_without_its_backbone_keeps_its_source(here: Machine, tmp_path: Path, photos: Path) -> None:
    from zoo.catalog.registry import Registry
    from zoo.settings import Settings

    (row,) = here("pull", "tiny.a", "--json").json
    registry = Registry(settings=Settings(registry=here.registry))
    learner = zoo.compose("tiny.a", "linear-probe", registry=registry, accelerator="cpu").fit(photos)
    run = learner.save(tmp_path / "run", embed=False)
    learner.save(tmp_path / "whole", embed=True)
    here.age()
    said = here("rm", "tiny.a", "--json")
    assert said.json["removed"][0]["kept_for"] == [str(run / "run.json")]
    here.registry.with_name("zoo.lock").unlink()
    here.age()
    assert here("cache", "gc", "--json").json["removed"] == []
    (run / "run.json").write_text("{")
    assert here("cache", "gc").code == 5
    (run / "run.json").unlink()
    assert [one["sha256"] for one in here("cache", "gc", "--json").json["removed"]] == [row["sha256"]]


def test_cache_verbs_are_near(here: Machine) -> None:
    said = here("cache", "lss")
    assert said.code == 2
    assert "Did you mean ls?" in said.err


# -- moving ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def there(machine: Callable[[str], Machine]) -> Machine:
    """A machine without network, of the same registry."""
    return machine("there")


def test_weights_move_to_a_machine_without_network(
    here: Machine, there: Machine, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "stick"
    rows = here("pull", "tiny.a", "tiny.b", "--to", folder, "--json").json
    assert [Path(row["path"]).parent for row in rows] == [folder / "blobs"] * 2
    hub.forget()
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    assert there("pull", "tiny.a").code == 3
    said = there("cache", "add", folder, "--json")
    assert said.code == 0
    assert [row["name"] for row in said.json["added"]] == ["tiny.a", "tiny.b"]
    there.forget()
    again = there("pull", "tiny.a", "tiny.b", "--locked", "--json").json
    assert [row["sha256"] for row in again] == [row["sha256"] for row in rows]
    assert there.registry.with_name("zoo.lock").read_bytes() == here.registry.with_name("zoo.lock").read_bytes()
    assert there("cache", "add", folder, "--json").json["added"][0]["cached"]
    assert there("verify").code == 0
    assert hub.count() == 0


def test_names_of_ones_own_move_too(here: Machine, there: Machine, tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").write_bytes(content(tmp_path, 8))
    here("register", tmp_path / "mine.safetensors", "--backbone", "tiny", "--name", "tiny.mine", "--license", "mit")
    folder = tmp_path / "stick"
    assert here("pull", "tiny.mine", "--to", folder).code == 0
    assert str(here.home) not in (folder / "portable.json").read_text()
    assert there("cache", "add", folder).code == 0
    default = here("show", "tiny", "--json").json["default_weights"]
    assert there("show", "tiny", "--json").json["default_weights"] == default
    facts = there("show", "tiny.mine", "--json").json
    assert (facts["license"], facts["num_classes"]) == ("mit", 4)
    assert there("pull", "tiny.mine", "--locked").code == 0
    assert there("cache", "add", folder).code == 0
    # The same name, other bytes: refused.
    (tmp_path / "mine.safetensors").write_bytes(content(tmp_path, 9))
    more = ("--backbone", "tiny", "--name", "tiny.mine", "--replace")
    there("register", tmp_path / "mine.safetensors", *more)
    assert there("cache", "add", folder).code == 5


def test_a_home_may_be_relative_or_behind_a_link(
    here: Machine, there: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.safetensors").write_bytes(content(tmp_path, 8))
    here("register", tmp_path / "mine.safetensors", "--backbone", "tiny", "--name", "tiny.mine")
    folder = tmp_path / "stick"
    here("pull", "tiny.mine", "--to", folder)
    there.home.mkdir(exist_ok=True)
    monkeypatch.chdir(there.home.parent)
    relative = replace(there, home=Path(there.home.name))
    assert relative("cache", "add", folder).code == 0
    assert relative("pull", "tiny.mine", "--locked").code == 0
    os.symlink(there.home, tmp_path / "link")
    # A registry that names a file of the store by its real path, while the store is reached through a link.
    blob = there.home / "blobs" / "sha256" / there.blobs()[0][:2] / f"{there.blobs()[0]}.safetensors"
    (there.home / "registry.toml").unlink()
    there.registry.write_text(f'schema = 1\n[weights."tiny.mine"]\nbackbone = "tiny"\nsource = "file:{blob}"\n')
    linked = replace(there, home=tmp_path / "link")
    assert [one["names"] for one in linked("cache", "ls", "--json").json["blobs"]] == [["tiny.mine"]]


def test_a_name_of_a_registry_that_is_not_there(here: Machine, there: Machine, tmp_path: Path) -> None:
    there.registry.write_text("schema = 1\n")
    folder = tmp_path / "stick"
    here("pull", "tiny.a", "--to", folder)
    assert there("cache", "add", folder).code == 0
    there.registry.with_name("zoo.lock").unlink()
    said = there("pull", "tiny.a", "--json")
    assert said.json[0]["cached"]
    written = tomllib.loads((there.home / "registry.toml").read_text())["weights"]["tiny.a"]
    assert written["sha256"] == said.json[0]["sha256"]
    assert written["source"] == "hf://me/a@main/model.safetensors"


def test_a_folder_grows_by_what_is_added(here: Machine, there: Machine, tmp_path: Path) -> None:
    folder = tmp_path / "stick"
    here("pull", "tiny.a", "--to", folder)
    here("pull", "tiny.b", "--to", folder)
    assert len(there("cache", "add", folder, "--json").json["added"]) == 2


def test_where_a_folder_may_be(here: Machine, tmp_path: Path, hub: FakeHub) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    for place in (tmp_path / "full", here.registry):
        assert here("pull", "tiny.a", "--to", place).code == 2
    assert hub.count() == 0
    assert here("cache", "add", tmp_path / "full").code == 3
    assert here("cache", "add", tmp_path / "absent").code == 3


def _tampered(table: dict[str, Any], how: str) -> None:
    one = table["weights"]["tiny.a"]
    if how == "hash":
        one["sha256"] = "0" * 64
    elif how == "path":
        one["sha256"] = "../" * 21 + "x"
    elif how == "name":
        table["weights"]["../../x"] = one
    elif how == "key":
        one["code"] = "print()"
    elif how == "registry key":
        one["registry"]["build"] = "os:system"
    elif how == "outside":
        one["registry"]["source"] = "file:../../etc/passwd"
        del one["lock"]
    elif how == "lock":
        one["lock"]["revision"] = "0" * 40
    elif how == "schema":
        table["schema"] = 2
    elif how == "bytes":
        one["bytes"] += 1
    elif how == "list":
        table["weights"] = []


@pytest.mark.parametrize(
    "how", ["hash", "path", "name", "key", "registry key", "outside", "lock", "schema", "bytes", "list"]
)
def test_a_tampered_manifest_adds_nothing(here: Machine, there: Machine, tmp_path: Path, how: str) -> None:
    folder = tmp_path / "stick"
    here("pull", "tiny.a", "--to", folder)
    table = json.loads((folder / "portable.json").read_text())
    _tampered(table, how)
    (folder / "portable.json").write_text(json.dumps(table))
    assert there("cache", "add", folder).code == 5
    assert there.blobs() == []
    assert not there.registry.with_name("zoo.lock").exists()
    assert not (there.home / "registry.toml").exists()


@pytest.mark.parametrize("how", ["flipped", "cut", "absent", "pickle"])
def test_a_damaged_file_in_the_folder_adds_nothing(here: Machine, there: Machine, tmp_path: Path, how: str) -> None:
    folder = tmp_path / "stick"
    here("pull", "tiny.a", "--to", folder)
    (file,) = (folder / "blobs").iterdir()
    raw = bytearray(file.read_bytes())
    if how == "flipped":
        raw[-1] ^= 1
    elif how == "cut":
        del raw[-4:]
    elif how == "pickle":
        raw[:2] = b"\x80\x04"
    file.write_bytes(raw)
    if how == "absent":
        file.unlink()
    assert there("cache", "add", folder).code == 5
    assert there.blobs() == []
    assert not there.registry.with_name("zoo.lock").exists()


def test_another_pin_here_is_a_contradiction(here: Machine, there: Machine, tmp_path: Path, hub: FakeHub) -> None:
    folder = tmp_path / "stick"
    here("pull", "tiny.a", "--to", folder)
    hub.add("me/a", "model.safetensors", content(tmp_path, 9))
    (mine,) = there("pull", "tiny.a", "--json").json
    said = there("cache", "add", folder)
    assert said.code == 5
    assert "means other bytes here" in said.err
    assert there.blobs() == [mine["sha256"]]
    there.registry.with_name("zoo.lock").unlink()
    there.registry.write_text("schema = 1\n" + entry("a", f'sha256 = "{mine["sha256"]}"'))
    assert there("cache", "add", folder).code == 5
    there.registry.write_text("schema = 1\n" + entry("a").replace("me/a", "you/a"))
    assert there("cache", "add", folder).code == 5


def test_a_file_that_somebody_pins(there: Machine, tmp_path: Path) -> None:
    file = tmp_path / "download.safetensors"
    file.write_bytes(content(tmp_path, 3))
    said = there("cache", "add", file)
    assert said.code == 3
    assert "zoo register" in said.err
    assert there.blobs() == []
    pin = hashlib.sha256(file.read_bytes()).hexdigest()
    there.registry.write_text("schema = 1\n" + entry("a", f'sha256 = "{pin}"'))
    said = there("cache", "add", file, "--json")
    assert said.json["added"][0]["name"] == "tiny.a"
    assert there("pull", "tiny.a", "--json").json[0]["cached"]


def test_a_pickle_whose_hash_begins_as_published(
    there: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tiny.pth"
    torch.manual_seed(0)
    torch.save(Tiny(num_classes=4).state_dict(), file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    there.registry.write_text(
        'schema = 1\n[weights."tiny.web"]\nbackbone = "tiny"\n'
        f'source = "https://example.org/tiny-{digest[:8]}.pth"\nsha256_prefix = "{digest[:8]}"\n'
    )
    said = there("cache", "add", file, "--json")
    assert said.code == 0
    locked = tomllib.loads(there.registry.with_name("zoo.lock").read_text())["weights"]["tiny.web"]
    assert (locked["sha256"], locked["converted_sha256"]) == (digest, said.json["added"][0]["sha256"])
    there.forget()
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    assert there("pull", "tiny.web", "--locked").code == 0
    other = tmp_path / "other.pth"
    torch.save({"x": torch.ones(1)}, other)
    assert there("cache", "add", other).code == 3
