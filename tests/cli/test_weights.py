"""pull, register, convert: weights come here, get a name, or stop being a pickle."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

import zoo
from zoo.models.tensors import write_tensors
from zoo.testing.hub import FakeHub
from zoo.testing.networks import Tiny

pytestmark = pytest.mark.usefixtures("tiny_plugin")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "mine.safetensors"
    write_tensors(path, Tiny(num_classes=4).state_dict())
    return path


def test_pull_from_a_hub_then_offline(cli, tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = tmp_path / "registry.toml"
    registry.write_text(
        'schema = 1\n[weights."tiny.hub"]\nbackbone = "tiny"\ndefault = true\n'
        'source = "hf://me/tiny@main/model.safetensors"\nlicense = "mit"\n'
    )
    offline = cli("--registry", registry, "pull", "tiny")
    assert offline.code == 3
    assert "zoo pull tiny.hub" in offline.err
    with FakeHub() as hub:
        hub.add("me/tiny", "model.safetensors", file.read_bytes())
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.delenv("ZOO_OFFLINE")
        (row,) = cli("--registry", registry, "pull", "tiny", "--json").json
        assert set(row) == {"name", "path", "sha256", "bytes", "source", "revision", "cached"}
        assert not row["cached"]
        assert Path(row["path"]).read_bytes() == file.read_bytes()
        asked = hub.count()
        assert cli("--registry", registry, "pull", "tiny.hub", "--json").json[0]["cached"]
        assert hub.count() == asked
    assert row["sha256"] in (tmp_path / "zoo.lock").read_text()
    (listed,) = cli("--registry", registry, "list", "tiny", "--json").json
    assert listed["pulled"]


def test_pull_of_a_name_that_nobody_has(cli) -> None:
    assert cli("pull", "tiny").code == 3
    assert cli("pull", "tinny.x").code == 3


def test_register_says_that_preprocessing_is_a_guess(cli, file: Path) -> None:
    said = cli("register", file, "--backbone", "tiny", "--name", "tiny.mine", "--license", "mit", "--json")
    assert said.code == 0
    assert "is not known: a guess" in said.err
    assert said.json["num_classes"] == 4
    assert zoo.load_backbone("tiny.mine").num_classes == 4


def test_a_file_is_known_by_its_bytes(cli, file: Path, tmp_path: Path) -> None:
    named = tmp_path / "registry.toml"
    from zoo.weights.files import hash_file

    named.write_text(
        f'schema = 1\n[weights."tiny.first"]\nbackbone = "tiny"\nsource = "file:{file.name}"\n'
        f'sha256 = "{hash_file(file)}"\nlicense = "mit"\n'
        "preprocessing = { input_size = [3, 8, 8], mean = [0.1, 0.2, 0.3], std = [1.0, 1.0, 1.0] }\n"
    )
    said = cli("--registry", named, "register", file, "--backbone", "tiny", "--name", "tiny.again", "--json")
    assert said.code == 0
    assert "is tiny.first" in said.err
    assert said.json["preprocessing"]["mean"] == [0.1, 0.2, 0.3]
    assert said.json["license"] == "mit"


def test_a_registry_that_does_not_read_the_users_file(file: Path, home: Path) -> None:
    from zoo.catalog.registry import Registry
    from zoo.catalog.spec import Weights
    from zoo.weights.register import register_file

    weights = Weights(name="tiny.alone", backbone="tiny", source="file:")
    added = register_file(file, weights, Registry(files=[]))
    assert Path(added.source.removeprefix("file:")).read_bytes() == file.read_bytes()
    assert "tiny.alone" in (home / "registry.toml").read_text()


@pytest.mark.parametrize(
    ("name", "code", "word"),
    [("mine", 2, "tiny.TAG"), ("vgg11.mine", 2, "tiny.TAG"), ("tiny.a/b", 2, "tiny.TAG")],
)
def test_register_under_a_name_that_does_not_fit(cli, file: Path, home: Path, name: str, code: int, word: str) -> None:
    said = cli("register", file, "--backbone", "tiny", "--name", name)
    assert said.code == code
    assert word in said.err
    assert not (home / "registry.toml").exists()


def test_convert(cli, tmp_path: Path) -> None:
    source, target = tmp_path / "x.pth", tmp_path / "x.safetensors"
    torch.save(Tiny(num_classes=4).state_dict(), source)
    said = cli("convert", source, target, "--json")
    assert said.code == 0
    assert set(said.json) == {"source", "path", "sha256", "bytes"}
    if os.name == "posix":
        assert target.stat().st_mode & 0o777 == source.stat().st_mode & 0o777
    assert cli("register", target, "--backbone", "tiny", "--name", "tiny.converted").code == 0
    assert cli("convert", source, target).code == 2
    assert cli("convert", tmp_path / "no.pth", tmp_path / "y.safetensors").code == 3
    assert cli("convert", source, tmp_path / "y.bin").code == 2
    assert cli("convert", source, tmp_path / "nowhere" / "y.safetensors").code == 3
    (tmp_path / "bad.pth").write_bytes(b"not a checkpoint")
    assert cli("convert", tmp_path / "bad.pth", tmp_path / "z.safetensors").code == 5
    assert not (tmp_path / "z.safetensors").exists()
