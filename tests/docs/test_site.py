"""The tutorial runs from top to bottom, the Chinese README keeps step, and the site is built without a warning."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from running import run_page

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def test_the_tutorial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    said = dict(run_page(DOCS / "tutorial.md", capsys))
    assert len(said) == 10
    # What the text says of what is seen.
    audited = next(out for command, out in said.items() if command.startswith("zoo audit pictures"))
    assert "again.png has the same bytes" in audited
    assert re.search(r"0007\.png is labelled 4 and looks like 7", audited)
    verdicts = [re.search(r"guard: ([\w-]+)", out)[1] for out in said.values() if "guard: " in out]  # type: ignore[index]
    assert verdicts[0] == "helps"


def _code(page: Path) -> list[str]:
    """The code blocks, without comments and the blanks before them."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    return ["\n".join(re.sub(r"\s+# .*", "", line) for line in block.splitlines()) for block in blocks]


def test_the_chinese_readme_keeps_step() -> None:
    english, chinese = ROOT / "README.md", ROOT / "README.zh-CN.md"
    assert _code(chinese) == _code(english)
    texts = [page.read_text(encoding="utf-8") for page in (english, chinese)]
    headings, rows, links = (
        [re.findall(pattern, text, re.M) for text in texts]
        for pattern in (r"^(#+) ", r"^\| (`.*?) \|", r"\]\(((?!README)[^)]+)\)")
    )
    assert headings[0] == headings[1]
    assert rows[0] == rows[1]
    assert sorted(links[0]) == sorted(links[1])


def test_every_page_is_on_the_site() -> None:
    listed = set(re.findall(r"^([\w/-]+)$", (DOCS / "index.md").read_text(), re.M)) | {"index"}
    assert {page.relative_to(DOCS).with_suffix("").as_posix() for page in DOCS.rglob("*.md")} == listed


def test_every_public_name_is_in_the_reference() -> None:
    import zoo

    page = (DOCS / "reference" / "python.md").read_text()
    documented = set(re.findall(r"auto(?:function|class):: (?:[\w.]+\.)?(\w+)", page))
    errors = {name for name in zoo.__all__ if name.endswith("Error")}
    assert set(zoo.__all__) - errors - {"__version__"} <= documented | {"hookimpl", "GRADIENT_OPTIONS"}


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    for name in ("sphinx", "myst_parser", "furo", "sphinx_click"):
        pytest.importorskip(name)
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", str(DOCS), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = {page.stem: page.read_text(encoding="utf-8") for page in (tmp_path / "reference").glob("*.html")}
    assert "--dry-run" in pages["cli"]
    assert "zoo-push" in pages["cli"]
    assert "predict_proba" in pages["python"]
    assert not re.search(r'(?:src|href)="https?://(?!github)[^"]*\.(?:js|css)', pages["cli"])  # nothing from elsewhere
