"""Plugins broken on purpose, as modules and as plugin files: what each is told before anything is built."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import zoo
from zoo.testing import ContractError, PluginContract, check, no_network
from zoo.testing.offline import NetworkRefusedError

HEAD = "import zoo\n\n"
BACKBONE = """
@zoo.hookimpl
def zoo_backbones():
    yield zoo.Backbone(name="kit_net", family="kit", build="zoo.testing.networks:Tiny", num_features=8, params=930)
"""
WEIGHTS = """
@zoo.hookimpl
def zoo_weights():
    yield zoo.Weights(name="{name}.v1", backbone="{name}", source="{source}", options={options})
"""
SOURCE = "hf://o/r@main/m.safetensors"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of plugin files."""
    folder = tmp_path / "files"
    folder.mkdir(mode=0o755)
    monkeypatch.setenv("ZOO_PLUGINS_DIR", str(folder))
    yield folder
    for name in [name for name in sys.modules if name.startswith("zoo_plugin_file_kit_")]:
        del sys.modules[name]


CASES = [
    ("import torch\n" + HEAD + BACKBONE, "light-import", "importing it imports torch", "name it by a string"),
    (HEAD + BACKBONE + "    import numpy\n", "light-import", "importing it imports numpy", "name it by a string"),
    (HEAD + "import zoo_absent_thing\n", "light-import", "No module named 'zoo_absent_thing'", "Mend its top module"),
    (HEAD + "raise SystemExit(3)\n", "hooks", "called sys.exit", "Mend"),
    (
        HEAD + "import socket\ntry: socket.create_connection(('192.0.2.1', 80), 1)\nexcept OSError: pass\n" + BACKBONE,
        "no-requests",
        r"asks the network for 192\.0\.2\.1",
        "Open no connection at import",
    ),
    (HEAD + "print('hello')\n" + BACKBONE, "silent", "prints 'hello", "use logging"),
    (
        HEAD + BACKBONE.replace("zoo_backbones", "zoo_backbone"),
        "hooks",
        "did you mean zoo_backbones",
        "docs/plugins.md",
    ),
    (HEAD + BACKBONE.replace("@zoo.hookimpl\n", ""), "hooks", "no function is marked", "docs/plugins.md"),
    (HEAD + BACKBONE.replace("params=930", "params=9.5"), "hooks", "params must be a whole number", "docs/plugins.md"),
    (HEAD + BACKBONE + BACKBONE.splitlines()[-1], "hooks", "'kit_net' twice", "docs/plugins.md"),
    (HEAD + BACKBONE.replace("kit_net", "resnet18"), "names", "resnet18 belongs to one of the zoo's own", "Rename it"),
    (HEAD + WEIGHTS.format(name="nobody", source=SOURCE, options={}), "weights", "nobody, which neither", "backbone"),
    (
        HEAD + BACKBONE + WEIGHTS.format(name="kit_net", source=SOURCE, options={"depth": 3}),
        "weights",
        "give the builder depth, which kit_net does not allow",
        r"Add it to options=\(...\)",
    ),
    (
        HEAD + BACKBONE + WEIGHTS.format(name="kit_net", source="file:/nowhere/m.safetensors", options={}),
        "weights",
        "are to lie in /nowhere/m.safetensors",
        "package data",
    ),
]


@pytest.mark.parametrize(
    ("source", "caught", "what", "change"),
    CASES,
    ids=[f"{case[1]}-{i}" for i, case in enumerate(CASES)],
)
def test_caught(source: str, caught: str, what: str, change: str, folder: Path) -> None:
    (folder / "kit_bad.py").write_text(source)
    (found,) = check("kit_bad", only=f"plugin-*-{caught}")
    assert found.state == "failed", found
    assert re.search(what, found.what), found
    assert re.search(change, found.change), found


def test_a_process_that_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loaded here without harm, it ends a fresh process."""
    (tmp_path / "kit_ends.py").write_text(
        HEAD + BACKBONE + "import os, sys\nif 'pytest' not in sys.modules: os._exit(4)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (found,) = check(__import__("kit_ends"), only="*-light-import")
    assert "ended the process with exit code 4" in found.what
    del sys.modules["kit_ends"]


def test_a_module_is_checked_as_an_installed_plugin_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kit_sound.py").write_text(HEAD + BACKBONE)
    monkeypatch.syspath_prepend(tmp_path)
    module = __import__("kit_sound")
    assert isinstance(module, ModuleType)
    found = {one.check: one.state for one in check(module, only="plugin-*")}
    assert set(found.values()) == {"ok"}
    assert set(found) == {"light-import", "no-requests", "silent", "hooks", "names", "weights"}
    del sys.modules["kit_sound"]


def test_an_object_has_no_import_to_check() -> None:
    class Plugin:
        @zoo.hookimpl
        def zoo_backbones(self) -> list[zoo.Backbone]:
            return []

    found = {one.check: one.state for one in check(Plugin())}
    assert found["light-import"] == "skipped"
    assert found["hooks"] == "ok"


def test_a_strategys_name_is_hidden_with_either_dash(folder: Path) -> None:
    spec = 'zoo.Strategy(name="linear_probe", kind="gradient", make="a.b:C")'
    (folder / "kit_bad.py").write_text(HEAD + f"@zoo.hookimpl\ndef zoo_strategies():\n    yield {spec}\n")
    (found,) = check("kit_bad", only="*-names")
    assert "linear_probe belongs to one of the zoo's own strategies" in found.what


def test_nobody() -> None:
    with pytest.raises(zoo.NotFoundError, match="no plugin called 'source_cn'") as caught:
        list(check("source_cn"))
    assert caught.value.hint == "Did you mean source_cnn?"


class TestTold:
    """In pytest a failure is one sentence and what to change, with the thing's name."""

    def test_the_message(self, folder: Path) -> None:
        (folder / "kit_bad.py").write_text(HEAD + BACKBONE.replace("930", "931"))
        contract = PluginContract()
        contract.plugin = "kit_bad"
        case = next(case for case in contract.cases() if str(case) == "backbone-kit_net-params")
        with pytest.raises(ContractError) as caught:
            case.run()
        assert str(caught.value).splitlines() == [
            "backbone kit_net: it has 930 parameters with 10 classes (build's default, else 1000) and three channels, "
            "and declares 931",
            "Write params=930.",
        ]

    def test_the_base_class_has_no_case(self) -> None:
        assert list(PluginContract().cases()) == []


class TestNoNetwork:
    def test_requests_are_refused_and_listed(self) -> None:
        import socket

        with no_network() as asked:
            with pytest.raises(NetworkRefusedError, match="localhost"):
                socket.getaddrinfo("localhost", 80)
            with socket.socket() as one, pytest.raises(NetworkRefusedError, match=r"127\.0\.0\.1:9"):
                one.connect(("127.0.0.1", 9))
        assert asked == ["localhost:80", "127.0.0.1:9"]
        with socket.socket() as one, pytest.raises(ConnectionError):
            one.connect(("127.0.0.1", 9))

    @pytest.mark.skipif(not hasattr(__import__("socket"), "AF_UNIX"), reason="no sockets of the file system")
    def test_sockets_of_the_file_system_stay_open(self, tmp_path: Path) -> None:
        import socket

        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
            server.bind(str(tmp_path / "s"))
            server.listen()
            with no_network() as asked:
                client.connect(str(tmp_path / "s"))
        assert asked == []
