"""Every Python and TOML example of the documentation runs, and every hook is documented with its exact arguments."""

from __future__ import annotations

import dataclasses
import inspect
import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

from zoo.catalog import hookspecs, ledger

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
#: Run from top to bottom elsewhere.
WHOLE = ("tutorial", *(page.stem for page in (ROOT / "docs" / "recipes").glob("*.md")))


def _blocks(page: Path, language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", page.read_text(), re.M | re.S)
    return [textwrap.dedent(code) for _, code in found]


def blocks(language: str) -> list[pytest.param]:
    return [
        pytest.param(text, id=f"{page.stem}-{i}")
        for page in PAGES
        if page.stem not in WHOLE
        for i, text in enumerate(_blocks(page, language))
    ]


@pytest.mark.parametrize("code", blocks("python"))
def test_python(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "example", "exec"), {"__name__": "__main__"})


def test_tests_on_the_page_about_testing_pass(tmp_path: Path) -> None:
    """As a reader would run them: each block is a test file, and the fixtures come from `-p`."""
    shown = [
        text for text in _blocks(ROOT / "docs" / "testing.md", "python") if "class Test" in text or "def test_" in text
    ]
    for i, text in enumerate(shown):
        (tmp_path / f"test_{i}.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "zoo.testing.fixtures", "-p", "no:cacheprovider", "-W", "error"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(shown) >= 4


def test_every_check_is_documented() -> None:
    from zoo.testing import backbone_checks, plugin_checks, strategy_checks
    from zoo.testing.contract import PluginContract

    page = (ROOT / "docs" / "testing.md").read_text()
    tables = re.findall(r"^\| (check of|attribute|fixture).*?\n\n", page, re.M | re.S)
    assert len(tables) == 5
    first = {name for row in re.findall(r"^\| (`.*?) \|", page, re.M) for name in re.findall(r"`([\w-]+)", row)}
    for checks in (
        plugin_checks.CHECKS,
        backbone_checks.SHAPE_CHECKS,
        backbone_checks.NUMBER_CHECKS,
        strategy_checks.CHECKS,
    ):
        assert set(checks) <= first
    attributes = {name for name in vars(PluginContract) if not name.startswith(("_", "pytest_", "test_"))} - {"cases"}
    assert attributes <= first


@pytest.mark.parametrize("text", blocks("toml"))
def test_toml(text: str, tmp_path: Path) -> None:
    if "schema" in tomllib.loads(text):
        assert ledger.parse(text, tmp_path / "registry.toml").weights


def test_every_hook_is_documented() -> None:
    """As a heading with its exact arguments, their types and what it gives; and no hook that there is not."""
    page = (ROOT / "docs" / "plugins.md").read_text()
    hooks = {name: value for name, value in vars(hookspecs).items() if name.startswith("zoo_")}
    assert len(hooks) >= 7
    written = [f"{name}{str(inspect.signature(hook)).replace(chr(39), '')}" for name, hook in hooks.items()]
    assert sorted(re.findall(r"^### `(zoo_\w+\(.*)`$", page, re.M)) == sorted(written)
    assert set(re.findall(r"\bzoo_[a-z]+(?:_[a-z]+)*\(", page)) == {f"{name}(" for name in hooks}


def test_every_field_of_a_backbone_and_method_of_a_strategy_is_documented() -> None:
    from zoo.adapt.strategy import Gradient
    from zoo.catalog.spec import Backbone

    page = (ROOT / "docs" / "plugins.md").read_text()
    rows = " ".join(re.findall(r"^\| (`.*?) \|", page, re.M))
    for field in dataclasses.fields(Backbone):
        assert field.name == "plugin" or f"`{field.name}`" in rows, field.name
    for name, method in vars(Gradient).items():
        if inspect.isfunction(method) and not name.startswith("_"):
            arguments = ", ".join(list(inspect.signature(method).parameters)[1:])
            assert f"`{name}({arguments})`" in rows, name


def test_every_verb_and_strategy_is_in_the_readme() -> None:
    import zoo
    from zoo.cli.app import VERBS

    text = (ROOT / "README.md").read_text() + (ROOT / "CHANGELOG.md").read_text()
    assert all(verb in text for verb in VERBS)
    assert all(f"`{strategy.name}`" in text for strategy in zoo.list_strategies())


def test_links_of_the_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
