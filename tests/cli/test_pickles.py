"""A pickle is refused wherever weights or a run are wanted, and the error names the one door."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import zoo

pytestmark = pytest.mark.usefixtures("tiny_plugin")


@pytest.fixture
def pickled(tmp_path: Path) -> Path:
    (tmp_path / "here" / "x.pth").parent.mkdir(exist_ok=True)
    path = tmp_path / "here" / "x.pth"
    torch.save({"a": torch.ones(1)}, path)
    return path


@pytest.mark.parametrize(
    "args",
    [
        ("register", "x.pth", "--backbone", "tiny", "--name", "tiny.x"),
        ("fit", "digits", "-b", "tiny", "-s", "linear-probe", "-w", "x.pth"),
        ("fit", "digits", "-b", "tiny", "-s", "linear-probe", "-w", "./x.pth"),
        ("fit", "digits", "-b", "tiny", "-w", "none", "-s", "distillation", "--set", "teacher=x.pth"),
        ("evaluate", "x.pth", "digits"),
        ("predict", "x.pth", "x.png"),
        ("--registry", "r.toml", "pull", "tiny.local"),
        ("--registry", "r.toml", "pull", "tiny.local", "--dry-run"),
    ],
)
def test_the_door_is_named(cli, args: tuple[str, ...], pickled: Path, home: Path) -> None:
    pickled.with_name("r.toml").write_text(
        'schema = 1\n[weights."tiny.local"]\nbackbone = "tiny"\nsource = "file:x.pth"\n'
    )
    said = cli(*args)
    assert said.code == 5, said.err
    assert "may be a pickle" in said.err
    assert "zoo convert" in said.err
    assert not (home / "registry.toml").exists()
    assert list(home.rglob("*.safetensors")) == []


def test_a_pickle_under_another_name(cli, pickled: Path) -> None:
    renamed = pickled.rename(pickled.with_suffix(".safetensors"))
    for args in (
        ("register", renamed, "--backbone", "tiny", "--name", "tiny.x"),
        ("fit", "digits", "-b", "tiny", "-s", "linear-probe", "-w", renamed),
    ):
        said = cli(*args)
        assert said.code == 5
        assert "zoo convert" in said.err


def test_the_python_face(pickled: Path) -> None:
    for refused in (
        lambda: zoo.load(pickled),
        lambda: zoo.load_backbone("tiny", weights=pickled),
        lambda: zoo.register_weights(pickled, "tiny", "tiny.x"),
        lambda: zoo.compose("tiny", "linear-probe", weights=str(pickled)),
    ):
        with pytest.raises(zoo.IntegrityError, match="may be a pickle"):
            refused()
