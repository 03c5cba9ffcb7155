"""How a command line ends: exit codes, near misses, errors as JSON."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import zoo.cli.learn
from zoo import __version__
from zoo.adapt.record import read_history
from zoo.cli.app import VERBS


def test_version(cli) -> None:
    assert cli("--version").out == f"zoo {__version__}\n"


def test_help_names_every_verb(cli) -> None:
    said = cli("--help")
    assert said.code == 0
    for verb in ["list", "show", "strategies", "plugins", "register", "fit", "pretrain", "evaluate", "predict", "demo"]:
        assert f"\n  {verb} " in said.out


@pytest.mark.parametrize("verb", [*(verb for verb in VERBS if verb != "cache"), "cache ls", "cache gc", "cache add"])
def test_every_verb_has_help_and_both_modes(cli, verb: str) -> None:
    said = cli(*verb.split(), "-h")
    assert said.code == 0
    assert "--json" in said.out
    assert "-q, --quiet" in said.out


def test_status_says_what_to_try(cli) -> None:
    said = cli()
    assert said.code == 0
    assert "zoo demo" in said.out
    assert "backbones" in said.out


@pytest.mark.parametrize(
    ("args", "code", "near"),
    [
        (["lsit"], 2, "list"),
        (["pretrian", "digits"], 2, "pretrain"),
        (["fit", "digits", "--backbon", "x"], 2, "--backbone"),
        (["list", "--famly", "vgg"], 2, "--family"),
        (["fit", "digits", "-b", "resnet81", "-s", "linear-probe"], 3, "resnet18"),
        (["fit", "digits", "-b", "source_cnn", "-s", "linear-prob"], 3, "linear-probe"),
        (["fit", "digits", "-b", "resnet18", "-w", "tv_in1kk", "-s", "linear-probe"], 3, "tv_in1k"),
        (["fit", "digit", "-b", "source_cnn", "-s", "from-scratch"], 3, "digits"),
        (["fit", "digits", "-b", "source_cnn", "-s", "from-scratch", "--set", "epoch=1"], 2, "epochs"),
        (["show", "vgg61"], 3, "vgg16"),
        (["fit", "digits", "-b", "source_cnn", "-s", "from-scratch", "--set", "seed=3"], 2, "--seed"),
        (["fit", "digits", "-b", "source_cnn", "-s", "from-scratch", "--set", "tap=x"], 2, "--tap"),
        (["fit", "digits", "-b", "source_cnn", "-s", "from-scratch", "--seed", "-1"], 2, "--seed"),
        (["list", "--offline"], 2, "before the verb"),
    ],
)
def test_a_near_miss_is_named(cli, args: list[str], code: int, near: str) -> None:
    said = cli(*args)
    assert said.code == code
    assert near in said.err
    assert "error[" in said.err
    assert not Path("runs").exists()


def test_an_error_as_json(cli) -> None:
    said = cli("show", "vgg61", "--json")
    assert said.code == 3
    assert set(said.json["error"]) == {"code", "message", "hint"}
    assert said.json["error"]["code"] == "not-found"
    assert "error[not-found]" in said.err


def test_a_usage_error_as_json(cli) -> None:
    said = cli("fit", "--json")
    assert said.code == 2
    assert said.json["error"]["code"] == "usage"


@pytest.mark.parametrize(
    ("error", "code", "word"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(errno.ENOSPC, "No space left on device", "x"), 6, "disk"),
        (OSError(errno.EROFS, "Read-only file system", "x"), 6, "disk"),
        (ValueError("odd"), 1, "internal"),
    ],
)
def test_how_other_endings_are_told(cli, monkeypatch, error: BaseException, code: int, word: str) -> None:
    def fails(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(zoo.cli.learn, "fit", fails)
    said = cli("fit", "digits", "-b", "source_cnn", "-s", "from-scratch")
    assert said.code == code
    assert f"error[{word}]" in said.err
    assert "Traceback" not in said.err


def test_a_traceback_only_in_debug(cli, monkeypatch) -> None:
    monkeypatch.setenv("ZOO_DEBUG", "1")
    said = cli("show", "vgg61")
    assert "Traceback" in said.err
    assert said.code == 3


def test_an_absent_registry_file(cli) -> None:
    assert cli("--registry", "nowhere.toml", "list").code == 2


def test_a_broken_pipe_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m zoo list --json | head -c 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, env={**os.environ}, check=False)
    assert done.stdout == "["
    assert done.stderr == ""


@pytest.mark.skipif(os.name != "posix", reason="closes descriptors")
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_no_error(closed: str) -> None:
    command = f'"{sys.executable}" -c "from zoo.cli import main; main()" list alexnet {closed}'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("alexnet" in done.stdout) == (closed == "2>&-")


def test_the_current_directory_is_no_place_for_plugins(tmp_path: Path) -> None:
    (tmp_path / "zoo_plugins").mkdir()
    (tmp_path / "zoo_plugins" / "__init__.py").write_text("raise SystemExit(99)")
    (tmp_path / "pluggy.py").write_text("raise SystemExit(99)")
    done = subprocess.run(
        [sys.executable, "-m", "zoo", "list", "alexnet"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "alexnet" in done.stdout


LOUD = """
import zoo

def build(*, num_classes=10, in_chans=3):
    from zoo.testing.networks import Tiny
    print("built")
    return Tiny(num_classes=num_classes, in_chans=in_chans)

@zoo.hookimpl
def zoo_backbones():
    yield zoo.Backbone(name="loud", family="loud", build=build, num_features=8, params=930, input_size=(3, 8, 8))

@zoo.hookimpl
def zoo_epoch_end(metrics):
    metrics.clear()
"""


def test_what_a_plugin_prints_and_empties_later_spoils_nothing(cli, tmp_path: Path, monkeypatch) -> None:
    plugins = tmp_path / "plugins"
    plugins.mkdir(mode=0o755)
    (plugins / "loud.py").write_text(LOUD)
    (plugins / "loud.py").chmod(0o644)
    monkeypatch.setenv("ZOO_PLUGINS_DIR", str(plugins))
    made = ("fit", "digits", "-b", "loud", "-w", "none", "-s", "from-scratch", "--labels-per-class", "2")
    said = cli(*made, "--set", "epochs=1", "-o", "run", "--json")
    assert said.code == 0, said.err
    assert said.json["backbone"] == "loud"
    assert "built\n" in said.err
    record = json.loads(Path("run/run.json").read_text())
    assert [epoch["loss"] > 0 for epoch in read_history(Path("run"))] == [True]
    assert record["composition"]["backbone"]["plugin"] == "loud"
