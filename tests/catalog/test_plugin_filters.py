"""Plugins that are off are never imported, and those that are required are there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from catalog_kit import GOOD, installed, report

from zoo.catalog.registry import Registry
from zoo.errors import NotFoundError, PluginError, RegistryError, UsageError


@pytest.fixture
def two(install: Callable[..., Path]) -> None:
    install("zoo-one", "1.0", {"one": "zoo_t_one"}, zoo_t_one=GOOD.format(name="one"))
    install("zoo-two", "2.5.1", {"two": "zoo_t_two"}, zoo_t_two=GOOD.format(name="two"))


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    ("environment", "off"),
    [
        ({"ZOO_PLUGINS": "one"}, {"two"}),
        ({"ZOO_PLUGINS": ""}, {"one", "two"}),
        ({"ZOO_PLUGINS": "one,two", "ZOO_DISABLE": "two"}, {"two"}),
        ({"ZOO_DISABLE": "one, two"}, {"one", "two"}),
        ({"ZOO_DISABLE": "alexnet,cifar-resnet"}, {"alexnet", "cifar_resnet"}),
    ],
)
def test_what_is_off_is_never_imported(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], off: set[str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    registry = Registry(files=())
    assert {one.name for one in registry.reports() if one.state == "disabled"} == off
    assert all(f"zoo_t_{name}" not in sys.modules for name in off)
    assert registry.backbone("resnet18").plugin == "resnet"
    with pytest.raises(NotFoundError, match=f"'{min(off)}' is off"):
        registry.backbone("nobody_has_it")


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize("variable", ["ZOO_PLUGINS", "ZOO_DISABLE"])
def test_an_unknown_name_in_a_filter(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "tvo")
    with pytest.raises(UsageError) as caught:
        installed().backbones()
    assert variable in caught.value.message
    assert "two" in (caught.value.hint or "")
    assert caught.value.exit_code == 2


def _file(tmp_path: Path, body: str) -> Path:
    path = tmp_path / "registry.toml"
    path.write_text(f"schema = 1\n[plugins]\n{body}\n")
    return path


@pytest.mark.usefixtures("two")
def test_a_registry_file_turns_plugins_off(tmp_path: Path) -> None:
    path = _file(tmp_path, 'disabled = ["two"]')
    registry = Registry(builtins=False, files=[path])
    assert [one.name for one in registry.backbones()] == ["one"]
    assert str(path) in (report(registry, "two").problem or "")
    with pytest.raises(RegistryError, match=r"registry\.toml.*'too'"):
        Registry(builtins=False, files=[_file(tmp_path, 'disabled = ["too"]')]).backbones()


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize("required", ["zoo-two", "zoo_two>=2", "two>=2.5,<3", "ZOO.Two", "alexnet"])
def test_a_requirement_that_is_met(tmp_path: Path, required: str) -> None:
    registry = Registry(files=[_file(tmp_path, f'required = ["{required}"]')])
    assert registry.backbone("two").plugin == "two"


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    ("body", "says", "hint"),
    [
        ('required = ["zoo-lora>=0.3"]', "not installed", "pip install 'zoo-lora>=0.3'"),
        ('required = ["zoo-tow"]', "not installed", "zoo-two"),
        ('required = ["zoo-two>=3"]', "version 2.5.1 is here", "pip install 'zoo-two>=3'"),
        ('required = ["two"]\ndisabled = ["two"]', "is off", None),
    ],
)
def test_a_requirement_that_is_not_met(tmp_path: Path, body: str, says: str, hint: str | None) -> None:
    with pytest.raises(RegistryError, match=says) as caught:
        Registry(builtins=False, files=[_file(tmp_path, body)]).backbones()
    assert "registry.toml" in caught.value.message
    assert hint is None or hint in (caught.value.hint or "")


def test_a_required_plugin_that_failed(tmp_path: Path, install: Callable[..., Path]) -> None:
    install("zoo-bad", "1.0", {"bad": "zoo_t_bad"}, zoo_t_bad="1 / 0\n")
    registry = Registry(builtins=False, files=[_file(tmp_path, 'required = ["zoo-bad"]')])
    assert report(registry, "bad").state == "failed"
    with pytest.raises(PluginError, match="requires the plugin 'bad'"):
        registry.backbones()
