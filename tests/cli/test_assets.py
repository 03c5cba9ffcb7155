"""Files that belong to weights besides their tensors: pulled, proved, locked, carried and removed with them."""

from __future__ import annotations

import hashlib
import json
import os
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from zoo.errors import IntegrityError, NotFoundError, RegistryError
from zoo.models.tensors import write_tensors
from zoo.testing.hub import FakeHub
from zoo.testing.networks import Tiny

pytestmark = pytest.mark.usefixtures("tiny_plugin")

WORDS = b'{"words": ["good", "bad"]}'
PIN = hashlib.sha256(WORDS).hexdigest()


class Machine:
    """A home, a registry with two names that share a file, and the command line."""

    def __init__(self, folder: Path, cli: Callable[..., Any], environment: pytest.MonkeyPatch, pin: str = PIN) -> None:
        folder.mkdir()
        self.home, self.registry = folder / "home", folder / "registry.toml"
        self.cli, self.environment = cli, environment
        self.write(pin)

    def write(self, pin: str) -> None:
        file = f'{{ source = "hf://me/a@main/words.json", sha256 = "{pin}", role = "tokenizer" }}'
        self.registry.write_text(
            "schema = 1\n"
            + "".join(
                f'[weights."tiny.{tag}"]\nbackbone = "tiny"\nsource = "hf://me/{tag}@main/model.safetensors"\n'
                f"files = [{file}]\n"
                for tag in "ab"
            )
        )

    def __call__(self, *args: Any) -> Any:
        self.environment.setenv("ZOO_HOME", str(self.home))
        return self.cli("--registry", self.registry, *args)

    @property
    def asset(self) -> Path:
        return self.home / "blobs" / "sha256" / PIN[:2] / f"{PIN}.asset"

    def age(self) -> None:
        for path in (self.home / "blobs").rglob("*"):
            os.utime(path, (time.time() - 86_400,) * 2)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.delenv("ZOO_OFFLINE")
    with FakeHub(lfs_from=1000) as server:  # the small file has its name in git, as on the Hub
        for seed, tag in enumerate("ab"):
            torch.manual_seed(seed)
            write_tensors(tmp_path / "content.safetensors", Tiny(num_classes=4).state_dict())
            server.change(
                f"me/{tag}",
                {"model.safetensors": (tmp_path / "content.safetensors").read_bytes(), "words.json": WORDS},
            )
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def here(cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: FakeHub) -> Machine:
    return Machine(tmp_path / "machine", cli, monkeypatch)


def test_they_come_with_their_weights(here: Machine, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = here("pull", "tiny.a", "--dry-run", "--json").json[0]
    assert [(file["name"], file["cached"]) for file in planned["files"]] == [("words.json", False)]
    assert not here.home.exists() or not here.asset.exists()
    row = here("pull", "tiny.a", "--json").json[0]
    assert row["cached"] is False
    [file] = row["files"]
    assert (file["name"], file["sha256"], file["bytes"], file["role"]) == ("words.json", PIN, len(WORDS), "tokenizer")
    assert Path(file["path"]) == here.asset
    assert here.asset.read_bytes() == WORDS
    before = len(hub.requests)
    assert here("pull", "tiny.a", "--json").json[0]["cached"] is True
    assert len(hub.requests) == before
    locked = tomllib.loads((here.registry.parent / "zoo.lock").read_text())
    assert locked["weights"]["tiny.a"]["files"] == {"words.json": PIN}
    assert here("--offline", "pull", "tiny.a", "--locked").code == 0
    monkeypatch.setenv("ZOO_REGISTRY", str(here.registry))
    network = zoo.load_backbone("tiny.a", registry=zoo.Registry())
    assert network.assets == {"words.json": WORDS}


def test_one_that_is_missing_comes_back(here: Machine) -> None:
    here("pull", "tiny.a")
    here.asset.unlink()
    assert "tiny.a" not in [name for row in here("list", "--pulled", "--json").json for name in row["weights"]]
    said = here("--offline", "pull", "tiny.a")
    assert said.code == 3
    assert "words.json" in said.err
    assert here("verify").code == 3
    assert here("pull", "tiny.a", "--json").json[0]["cached"] is False
    assert here("verify").code == 0


@pytest.mark.parametrize("fault", ["flip", "cut", "404"])
def test_other_bytes_are_not_kept(here: Machine, hub: FakeHub, fault: str) -> None:
    here("pull", "tiny.a")
    here.asset.unlink()
    if fault == "flip":
        hub.add("me/a", "words.json", WORDS[::-1])
    elif fault == "cut":
        hub.add("me/a", "words.json", WORDS[:-1])
    else:
        hub.change("me/a", {"words.json": None})
    said = here("pull", "tiny.a")
    assert said.code == (3 if fault == "404" else 5), said.err
    assert not here.asset.exists()
    assert not list((here.home / "blobs" / "parts").glob("*.part"))


def test_the_lock_and_the_registry_must_agree(here: Machine) -> None:
    here("pull", "tiny.a")
    here.write("0" * 64)
    said = here("pull", "tiny.a", "--locked")
    assert said.code == 5
    assert "words.json" in said.err


def test_damage_is_found(here: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    here("pull", "tiny.a")
    assert here("verify", "--json").json["ok"] == 2
    assert here("verify", "tiny.a", "--json").json["ok"] == 2
    here.asset.chmod(0o644)
    here.asset.write_bytes(WORDS[::-1])
    for said in (here("verify", "--json"), here("verify", "tiny.a", "--json")):
        assert said.code == 5
        assert said.json["damaged"] == 1
    monkeypatch.setenv("ZOO_REGISTRY", str(here.registry))
    with pytest.raises(IntegrityError, match="not the file that was promised"):
        zoo.load_backbone("tiny.a", registry=zoo.Registry())


def test_they_go_when_nobody_needs_them(here: Machine) -> None:
    here("pull", "tiny.a", "tiny.b")
    freed = here("rm", "tiny.a", "--json").json
    assert here.asset.exists()  # tiny.b needs it
    here("rm", "tiny.b")
    assert not here.asset.exists()
    assert freed["freed"] == freed["removed"][0]["freed"] > len(WORDS)
    here("pull", "tiny.a")
    names = {Path(row["path"]).name: row["names"] for row in here("cache", "ls", "--json").json["blobs"]}
    assert names[here.asset.name] == ["tiny.a", "tiny.b"]
    here.registry.write_text("schema = 1\n")
    (here.registry.parent / "zoo.lock").unlink()
    here.age()
    assert here("cache", "gc").code == 0
    assert not here.asset.exists()


def test_they_move_to_a_machine_without_network(
    here: Machine, cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "stick"
    assert here("pull", "tiny.a", "--to", folder).code == 0
    assert (folder / "blobs" / f"{PIN}.asset").read_bytes() == WORDS
    there = Machine(tmp_path / "there", cli, monkeypatch)
    assert there("--offline", "cache", "add", folder).code == 0
    assert there.asset.read_bytes() == WORDS
    assert there("--offline", "pull", "tiny.a", "--locked").code == 0
    bare = Machine(tmp_path / "bare", cli, monkeypatch)
    bare.registry.write_text("schema = 1\n")  # nobody there knows the name
    assert bare("--offline", "cache", "add", folder).code == 0
    assert bare("--offline", "pull", "tiny.a").code == 0
    (folder / "blobs" / f"{PIN}.asset").write_bytes(WORDS[::-1])
    last = Machine(tmp_path / "last", cli, monkeypatch)
    assert last("--offline", "cache", "add", folder).code == 5
    assert not list(last.home.rglob("*.asset"))
    (folder / "blobs" / f"{PIN}.asset").unlink()
    assert last("--offline", "cache", "add", folder).code == 5


def test_files_of_this_machine(tmp_path: Path, home: Path) -> None:
    write_tensors(tmp_path / "net.safetensors", Tiny(num_classes=4).state_dict())
    (tmp_path / "words.json").write_bytes(WORDS)
    text = '[weights."tiny.mine"]\nbackbone = "tiny"\nsource = "file:net.safetensors"\n'
    registry = tmp_path / "mine.toml"

    def load(files: str) -> Any:
        registry.write_text(f"schema = 1\n{text}files = [{files}]\n")
        return zoo.load_backbone("tiny.mine", registry=zoo.Registry(files=[registry]))

    assert load(f'{{ source = "file:words.json", sha256 = "{PIN}", role = "x" }}').assets == {"words.json": WORDS}
    named = load(f'{{ source = "file:words.json", name = "vocabulary", sha256 = "{PIN}", role = "x" }}')
    assert named.assets == {"vocabulary": WORDS}
    with pytest.raises(RegistryError, match="has no sha256"):
        load('{ source = "file:words.json", role = "x" }')
    with pytest.raises(RegistryError, match="cannot name a file"):
        load(f'{{ source = "file:words.json", name = "../x", sha256 = "{PIN}", role = "x" }}')
    with pytest.raises(IntegrityError, match="not the file that was promised"):
        load(f'{{ source = "file:words.json", sha256 = "{"0" * 64}", role = "x" }}')
    with pytest.raises(NotFoundError, match="no file"):
        load(f'{{ source = "file:absent.json", sha256 = "{PIN}", role = "x" }}')


def test_registered_like_others_they_are_copied(tmp_path: Path, home: Path) -> None:
    write_tensors(tmp_path / "net.safetensors", Tiny(num_classes=4).state_dict())
    (tmp_path / "words.json").write_bytes(WORDS)
    (tmp_path / "mine.toml").write_text(
        'schema = 1\n[weights."tiny.model"]\nbackbone = "tiny"\nsource = "file:net.safetensors"\n'
        f'files = [{{ source = "file:words.json", sha256 = "{PIN}", role = "x" }}]\n'
    )
    (home / "registry.toml").write_text("schema = 1\n")
    registry = zoo.Registry(files=[tmp_path / "mine.toml", home / "registry.toml"])
    zoo.register_weights(tmp_path / "net.safetensors", "tiny", "tiny.copy", like="tiny.model", registry=registry)
    (tmp_path / "words.json").unlink()
    again = zoo.Registry(files=[home / "registry.toml"])
    assert zoo.load_backbone("tiny.copy", registry=again).assets == {"words.json": WORDS}
    assert json.loads(json.dumps(again.weights("tiny.copy")[0].files[0]["name"])) == "words.json"


def test_a_file_that_somebody_pins(here: Machine, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(WORDS)
    said = here("--offline", "cache", "add", tmp_path / "x.json", "--json")
    assert said.code == 0, said.err
    assert here.asset.read_bytes() == WORDS
    assert "tiny.a" in said.out
    (tmp_path / "x.json").write_bytes(WORDS + b" ")
    assert here("--offline", "cache", "add", tmp_path / "x.json").code == 3
