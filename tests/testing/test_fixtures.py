"""The fixtures for tests of plugins, used as a third party uses them; and what importing the kit costs."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import zoo
from zoo.catalog.registry import Registry
from zoo.settings import Settings
from zoo.testing import FakeHub

pytest_plugins = ["zoo.testing.fixtures"]


class Plugin:
    @zoo.hookimpl
    def zoo_strategies(self) -> list[zoo.Strategy]:
        return [zoo.Strategy(name="kit-own", kind="closed-form", make="a.b:C")]


def test_the_registry_is_the_default_one_of_this_test(registry: Registry) -> None:
    assert zoo.show("tiny").plugin == "tiny"
    assert zoo.show("resnet18").plugin == "resnet"
    zoo.register(Plugin(), name="mine")
    assert registry.strategy("kit_own").plugin == "mine"
    assert {report.origin for report in registry.reports()} == {"built-in", "object"}
    assert zoo.compose("tiny", "linear-probe", weights=None).registry is registry


def test_the_next_test_has_another(registry: Registry) -> None:
    with pytest.raises(zoo.NotFoundError):
        registry.strategy("kit-own")


def test_the_home_is_empty_and_offline(zoo_home: Path, registry: Registry) -> None:
    assert Settings().home == zoo_home
    assert Settings().offline
    assert list(zoo_home.iterdir()) == []
    assert [name for name in os.environ if name.startswith(("ZOO_", "HF_"))] == ["ZOO_HOME", "ZOO_OFFLINE"]


def test_a_hub(hub: FakeHub) -> None:
    hub.add("me/tiny", "model.safetensors", b"bytes")
    assert os.environ["HF_ENDPOINT"] == hub.url
    assert not Settings().offline
    with urllib.request.urlopen(f"{hub.url}/me/tiny/resolve/main/model.safetensors") as answer:
        assert answer.read() == b"bytes"
    hub.fault = "no-file"
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"{hub.url}/me/tiny/resolve/main/model.safetensors")


def test_a_contract_in_pytest(tmp_path: Path) -> None:
    """A stranger's test file: one slip of two backbones is one failure, told in two lines."""
    (tmp_path / "kit_two.py").write_text(
        "import zoo\n\n@zoo.hookimpl\ndef zoo_backbones():\n"
        "    for name, params in (('one', 930), ('two', 931)):\n"
        "        yield zoo.Backbone(name=name, family='kit', build='zoo.testing.networks:Tiny', num_features=8,\n"
        "                           params=params, input_size=(3, 8, 8), head='classifier')\n"
    )
    (tmp_path / "test_two.py").write_text(
        "from zoo.testing import PluginContract\nimport kit_two\n\n"
        "class TestTwo(PluginContract):\n    plugin = kit_two\n    skip = {'*-two-seed': 'because'}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rfs", "-p", "no:cacheprovider", "-k", "two-", "test_two.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "1 failed, 17 passed, 1 skipped, 13 deselected" in done.stdout, done.stdout
    assert "backbone two: it has 930 parameters with 10 classes" in done.stdout
    assert "Write params=930." in done.stdout
    assert "test_two.py::TestTwo::test_contract[backbone-two-params]" in done.stdout
    assert "because" in done.stdout


def test_importing_the_kit_is_light() -> None:
    program = (
        "import sys, zoo.testing as t; t.PluginContract, t.check, t.ContractError, t.Finding, t.no_network; "
        "print({'torch', 'numpy', 'timm', 'pytest'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
