"""Every Python and TOML example of the documentation runs, and every hook is documented with its exact arguments."""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path

import pytest

from zoo.catalog import hookspecs, ledger

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[pytest.param]:
    found = []
    for page in PAGES:
        for i, text in enumerate(re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)):
            found.append(pytest.param(text, id=f"{page.stem}-{i}"))
    return found


@pytest.mark.parametrize("code", blocks("python"))
def test_python(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "example", "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("text", blocks("toml"))
def test_toml(text: str, tmp_path: Path) -> None:
    if "schema" in tomllib.loads(text):
        assert ledger.parse(text, tmp_path / "registry.toml").weights


def test_every_hook_is_documented() -> None:
    page = (ROOT / "docs" / "plugins.md").read_text()
    hooks = {name: value for name, value in vars(hookspecs).items() if name.startswith("zoo_")}
    assert len(hooks) >= 7
    for name, hook in hooks.items():
        assert f"`{name}({', '.join(inspect.signature(hook).parameters)})`" in page


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
