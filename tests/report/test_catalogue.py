"""The catalogue page: what is on it, and what its search, sort and filter do in a real browser."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from contrast import CONTRAST

import zoo
from zoo.catalog.spec import Backbone
from zoo.report.catalogue import COLUMNS, write_catalogue

if TYPE_CHECKING:
    from chromium import Chromium

FORGED = Backbone(
    name="forged",
    family="<script>alert(1)</script>",
    build="zoo.testing.tiny:tiny",
    num_features=4,
    params=10,
    summary="</script><img src=x onerror=alert(1)>",
)


class Rows(HTMLParser):
    """Cells of the body of the catalogue's table, and which elements there are."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = self._inside or tag == "tbody"
        if self._inside and tag == "tr":
            self.rows.append([])
        if self._inside and tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "tbody"

    def handle_data(self, data: str) -> None:
        if self._inside and self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


@pytest.fixture
def page(tmp_path: Path) -> Path:
    from zoo.catalog.registry import Registry

    registry = Registry()
    registry.register(FORGED)
    path = tmp_path / "catalogue.html"
    write_catalogue(path, registry)
    return path


def test_it_has_every_backbone_and_what_is_known_of_it(page: Path) -> None:
    rows = Rows(page.read_text()).rows
    specs = [*zoo.list_backbones(), FORGED]
    assert sorted(row[0] for row in rows) == sorted(spec.name for spec in specs)
    assert all(len(row) == len(COLUMNS) for row in rows)
    by_name = {row[0]: row for row in rows}
    best = max(one.metrics["top1"] for one in zoo.list_weights("resnet18.*") if "top1" in one.metrics)
    resnet = by_name["resnet18"]
    assert resnet[1:3] == ["resnet", "11.7 M"]
    assert resnet[3] == f"{best:.1f}"
    assert resnet[5].startswith(f"{zoo.Registry().default_weights(zoo.show('resnet18')).tag} +")
    assert by_name["source_cnn"][3] == "-"
    restricted = next(row for row in rows if row[4].startswith("cc-by-nc"))
    assert "allows no commercial use" in restricted[4]


def test_figure_and_licence_are_of_the_same_weights(page: Path) -> None:
    rows = {row[0]: row for row in Rows(page.read_text()).rows}
    checked = 0
    for spec in zoo.list_backbones():
        scored = [one for one in zoo.list_weights(f"{spec.name}.*") if "top1" in one.metrics]
        if scored:
            most = max(one.metrics["top1"] for one in scored)
            licences = {one.license or "-" for one in scored if one.metrics["top1"] == most}
            assert rows[spec.name][4].split(" (")[0] in licences, spec.name
            checked += 1
    assert checked > 100


def test_it_asks_for_nothing_and_names_are_text(page: Path) -> None:
    text = page.read_text()
    elements = Rows(text).elements
    assert [one for tag, one in elements if tag == "script"] == [{"type": "application/json", "id": "data"}, {}]
    assert not [tag for tag, _ in elements if tag in ("link", "img", "iframe", "object", "base")]
    assert not [one for _, one in elements if {"src", "href", "onerror"} & set(one) and one.get("href") != "#main"]
    assert "default-src &#39;none&#39;" in text
    assert not re.search(r"url\(|@import", text)
    assert "<script>alert" not in text
    assert "onerror=" not in text.replace("onerror=alert(1)\\u003e", "")


def test_it_needs_no_heavy_import(tmp_path: Path) -> None:
    code = (
        "import sys; from zoo.cli.app import run; assert run(['catalog', 'c.html']) == 0; "
        "print(sorted({'torch', 'timm', 'numpy', 'PIL', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert (tmp_path / "c.html").stat().st_size < 2_000_000


SHOWN = "Array.from(document.querySelectorAll('#rows tr:not([hidden]) th'), (cell) => cell.textContent)"


def test_search_sort_and_filter_in_a_browser(page: Path, browser: Chromium, tmp_path: Path) -> None:
    browser.open(page)
    total = len(zoo.list_backbones()) + 1
    browser.click("#q")
    browser.type("ResNet tv_in1k")
    found = browser.run(SHOWN)
    wanted = {one.arch for one in zoo.list_weights("*.*tv_in1k*") if "resnet" in one.arch}
    assert wanted <= set(found)
    assert len(found) < 60
    assert browser.run("document.getElementById('count').textContent") == f"{len(found)} of {total:,} shown"
    assert browser.run("document.querySelectorAll('#dots circle:not([hidden])').length") <= len(found)

    browser.click("button[data-column='2']")  # parameters: numbers begin with the greatest
    sizes = {spec.name: spec.params for spec in zoo.list_backbones()}
    order = [sizes[name] for name in browser.run(SHOWN)]
    assert order == sorted(order, reverse=True)
    assert browser.run("document.querySelectorAll('th')[2].getAttribute('aria-sort')") == "descending"
    browser.run("document.querySelector(\"button[data-column='2']\").focus()")
    browser.press("Enter")
    assert [sizes[name] for name in browser.run(SHOWN)] == sorted(order)
    assert browser.run("document.querySelectorAll('th[aria-sort]').length") == 1

    browser.click("button[type=reset]")
    assert browser.run(f"new Promise((done) => setTimeout(() => done({SHOWN}.length), 20))") == total
    browser.click("#pretrained")
    browser.run("document.getElementById('most').focus()")
    browser.type("2")
    small = {spec.name for spec in zoo.list_backbones(pretrained=True, max_params=2e6)}
    assert set(browser.run(SHOWN)) == small
    browser.run(
        "const s = document.getElementById('license'); s.value = 'apache-2.0'; "
        "s.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    shown = set(browser.run(SHOWN))
    assert shown < small
    assert "forged" not in shown
    browser.click("button[data-column='3']")
    accuracies = browser.run(
        "Array.from(document.querySelectorAll('#rows tr:not([hidden])'), (row) => row.cells[3].textContent)"
    )
    known = [float(text) for text in accuracies if text != "-"]
    assert known == sorted(known, reverse=True)
    assert accuracies[len(known) :] == ["-"] * (len(accuracies) - len(known))

    browser.click("#dots circle:not([hidden])")
    assert browser.run("document.querySelectorAll('tr.picked, circle.picked').length") == 2
    assert browser.complaints == []
    assert browser.requests == []


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_is_readable_in_light_and_dark(page: Path, browser: Chromium, dark: bool, width: int) -> None:
    browser.open(page, dark=dark, width=width)
    assert browser.run("document.documentElement.scrollWidth") <= width  # nothing sticks out
    assert browser.run(CONTRAST) == []
    assert browser.complaints == []


@pytest.mark.parametrize("width", [1280, 1440, 1600])
def test_no_column_is_cut(page: Path, browser: Chromium, width: int) -> None:
    browser.open(page, width=width)
    assert browser.run("(b => b.scrollWidth - b.clientWidth)(document.querySelector('.tablebox'))") <= 0


def test_it_can_be_used_by_keyboard(page: Path, browser: Chromium) -> None:
    browser.open(page)
    browser.press("Tab")
    assert browser.run("document.activeElement.className") == "skip"
    browser.press("Enter")
    reached = []
    for _ in range(14):
        browser.press("Tab")
        reached.append(browser.run("document.activeElement.id || document.activeElement.className || "
                                   "document.activeElement.dataset.column"))  # fmt: skip
    assert {"q", "family", "license", "most", "pretrained", "plotbox", "tablebox", "0"} <= set(reached)
    assert browser.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
