"""Reports: of every kind of task and input, with data, without, and with other data; hostile names are text."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from contrast import CONTRAST
from PIL import Image

import zoo
from zoo.errors import DataError, NotFoundError, UsageError
from zoo.report.report import write_report

if TYPE_CHECKING:
    from chromium import Chromium

pytestmark = pytest.mark.usefixtures("tiny_plugin")

#: A class and a file that would be markup, code and a formula, were they not escaped.
HOSTILE = "<script>alert(1)<&'\"=1+1"
FAST: dict[str, Any] = {"explain": 2, "map": "pca"}


class Page(HTMLParser):
    """The sections of a page, its elements, and its text without scripts and styles."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.sections: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {"": ""}
        self._skipped = False
        self.source = path.read_text()
        self.feed(self.source)
        self.text = " ".join(" ".join(self.texts.values()).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.elements.append((tag, found))
        self._skipped = tag in ("script", "style")
        if tag == "section":
            self.sections.append(str(found["id"]))
            self.texts[self.sections[-1]] = ""

    def handle_endtag(self, tag: str) -> None:
        self._skipped = False

    def handle_data(self, data: str) -> None:
        if not self._skipped:
            self.texts[self.sections[-1] if self.sections else ""] += data


def pictures(folder: Path, classes: tuple[str, ...] = ("blue", "red"), n: int = 12) -> Path:
    """Small pictures of one colour a class."""
    random = np.random.default_rng(0)
    for code, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            pixels = random.integers(0, 120, (12, 12, 3))
            pixels[..., code % 3] += 100
            Image.fromarray(pixels.astype("u1")).save(folder / name / f"{i:02}.png")
    return folder


def probe(data: Any, strategy: str = "linear-probe", **options: Any) -> Any:
    return zoo.compose("tiny", strategy, weights=None, **options).fit(data)


def test_a_run_and_its_data(tmp_path: Path, browser_or_none: Chromium | None) -> None:
    names = (HOSTILE, "red")
    data = pictures(tmp_path / "data", names, 20)
    shutil.copy(data / "red" / "00.png", data / "red" / "copy.png")
    (data / "red" / "01.png").rename(data / "red" / f"{HOSTILE}.png")
    shutil.copy(data / "red" / "02.png", data / names[0] / "02b.png")
    run = probe(data).save(tmp_path / "run")
    learner = zoo.load(run)
    path = learner.report(tmp_path / "report.html", guard=True, **FAST)
    page = Page(path)
    assert page.sections == [
        "summary", "training", "classes", "probabilities", "mistakes", "occlusion", "map", "guard", "audit",
        "composition", "reproduce",
    ]  # fmt: skip
    assert sorted(re.findall(r'href="#([\w-]+)"', page.source)) == sorted(["main", *page.sections])
    for text in (f"{learner.evaluation.accuracy:.3f}", "95 %:"):
        assert text in page.texts["summary"]
    assert learner.record["data"]["fingerprint"] in page.texts["reproduce"]
    assert "licence of the data" in page.texts["composition"]
    assert "Exact copies" in page.texts["audit"]
    assert "is in train too" in page.texts["audit"] or "has the same bytes" in page.texts["audit"]
    assert str(data) not in page.texts["audit"]  # paths are shown below the data's folder

    # Names are text: no element comes of them, and no attribute is left.
    assert "alert(1)" in page.text
    assert [one for tag, one in page.elements if tag == "script"] == [{}]
    assert "<script>alert" not in page.source
    assert not [one for _, one in page.elements if any(name.startswith("on") for name in one)]
    sources = [one[key] for _, one in page.elements for key in ("src", "href") if one.get(key)]
    assert all(str(one).startswith(("data:image/", "#")) for one in sources)
    assert len([one for one in sources if str(one).startswith("data:")]) >= 4
    assert "default-src &#39;none&#39;" in page.source

    if browser_or_none is not None:
        for dark in (False, True):
            browser_or_none.open(path, dark=dark)
            assert browser_or_none.complaints == []
            assert browser_or_none.requests == []
            assert browser_or_none.run(CONTRAST) == []
            assert browser_or_none.run("Array.from(document.images).every((one) => one.naturalWidth > 0)")
        dots = "document.querySelectorAll('#map g[data-group]:not([hidden])').length"
        before = browser_or_none.run(dots)
        browser_or_none.click("#groups input")
        assert 0 < browser_or_none.run(dots) < before
        browser_or_none.click("#groups input")
        assert browser_or_none.run(dots) == before
        browser_or_none.press("Tab")
        assert browser_or_none.run("document.activeElement.closest('ul').id") == "groups"
        browser_or_none.open(path, width=390)
        assert browser_or_none.run("document.documentElement.scrollWidth") <= 390


def test_a_training_has_curves_and_the_same_run_the_same_page(tmp_path: Path, photos: Path) -> None:
    run = probe(photos, "fine-tune", epochs=3).save(tmp_path / "run")
    pages = [zoo.load(run).report(tmp_path / f"{i}.html", **FAST).read_text() for i in range(2)]
    assert pages[0] == pages[1]
    page = Page(tmp_path / "0.html")
    assert "Loss by epoch" in page.texts["training"]
    assert "Learning rate by epoch" in page.texts["training"]
    losses = [json.loads(line)["loss"] for line in (run / "history.jsonl").read_text().splitlines()]
    assert f"from {losses[0]:.4g} to {losses[-1]:.4g}" in page.texts["training"]
    paths = re.findall(r'<path class="line" d="(M[^"]+)"', page.source)
    assert len(paths[0].split("L")) == 3


def test_one_epoch_is_no_curve(tmp_path: Path, photos: Path) -> None:
    learner = probe(photos, "fine-tune", epochs=1)
    page = Page(learner.report(tmp_path / "page.html", **FAST))
    assert "training" in page.sections
    assert "Loss by epoch" not in page.texts["training"]
    assert "closed form" not in page.texts["training"]
    assert f"{learner.history[0]['loss']:.4g}" in page.texts["training"]


def test_what_is_measured_again_is_what_was_recorded(tmp_path: Path, photos: Path) -> None:
    learner = zoo.load(probe(photos).save(tmp_path / "run"))
    told: list[str] = []
    facts = write_report(
        learner, tmp_path / "r.html", explain=1, map=None, audit=False, progress=lambda what, *_: told.append(what)
    )
    assert facts["parity"] == 0
    assert facts["bytes"] == (tmp_path / "r.html").stat().st_size
    assert set(facts["left_out"]) == {"map", "audit"}
    assert "occlusion" in told
    assert Page(tmp_path / "r.html").sections == facts["sections"]


@pytest.mark.parametrize("how", ["gone", "changed", "arrays"])
def test_without_its_data_a_report_says_so(tmp_path: Path, photos: Path, how: str) -> None:
    if how == "arrays":
        x = np.random.default_rng(0).integers(0, 255, (30, 8, 8, 3)).astype("u1")
        learner = probe((x, ["a", "b", "c"] * 10))
    else:
        learner = zoo.load(probe(photos).save(tmp_path / "run"))
        shutil.rmtree(photos) if how == "gone" else (photos / "red" / "00.png").unlink()
    path = learner.report(tmp_path / "r.html", **FAST)
    page = Page(path)
    assert page.sections == ["summary", "training", "classes", "absent", "composition", "reproduce"]
    words = {"gone": "cannot be read", "changed": "is not the data", "arrays": "given as objects"}[how]
    assert words in page.texts["absent"]
    assert "Figures are those that the fit recorded" in page.texts["summary"]
    assert f"{learner.evaluation.accuracy:.3f}" in page.texts["summary"]
    with pytest.raises(DataError, match="a guard needs the data"):
        learner.report(tmp_path / "r.html", guard=True)


def test_data_that_moved_and_other_data(tmp_path: Path, photos: Path) -> None:
    learner = zoo.load(probe(photos).save(tmp_path / "run"))
    moved = tmp_path / "moved"
    shutil.move(photos, moved)
    assert write_report(learner, tmp_path / "a.html", moved, **FAST)["parity"] == 0
    other = pictures(tmp_path / "other", n=3)
    assert write_report(learner, tmp_path / "b.html", other, **FAST)["parity"] is None
    page = Page(tmp_path / "b.html")
    assert "which is not the data of the fit" in page.texts["summary"]
    assert "(6 rows)" in page.texts["summary"]
    with pytest.raises(NotFoundError):
        learner.report(tmp_path / "c.html", tmp_path / "nowhere")
    with pytest.raises(DataError):
        learner.report(tmp_path / "c.html", pictures(tmp_path / "third", ("wasp", "fly"), 2))
    assert not (tmp_path / "c.html").exists()


def test_several_labels(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    y = (random.random((60, 3)) < 0.5).astype("i8")
    x = random.integers(0, 100, (60, 8, 8, 3)) + 120 * y[:, None, None, :]
    learner = probe((x.astype("u1"), y))
    page = Page(learner.report(tmp_path / "r.html", (x.astype("u1"), y), **FAST))
    assert {"classes", "probabilities", "mistakes", "occlusion", "map"} <= set(page.sections)
    assert "mean average precision" in page.texts["summary"]
    assert "several labels" in page.texts["map"]
    assert "Confusion" not in page.text


def test_numbers(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    x = random.integers(0, 255, (60, 8, 8, 3)).astype("u1")
    y = x.mean(axis=(1, 2, 3)) / 10
    learner = probe((x, y.astype("f4")))
    page = Page(learner.report(tmp_path / "r.html", (x, y.astype("f4")), **FAST))
    assert {"scatter", "mistakes", "occlusion", "map"} <= set(page.sections)
    assert "probabilities" not in page.sections
    assert "RMSE" in page.texts["summary"]
    assert len(re.findall(r"<g[^>]*><path", page.source.split('id="scatter"')[1].split("</section>")[0])) == 12


def test_what_is_no_picture_has_none(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    y = np.arange(40) % 2
    x = (random.normal(size=(40, 3, 8, 8)) + y[:, None, None, None] * 0.05).astype("f4")
    learner = probe((x, y))
    learner.model.backbone.preprocessing = None
    page = Page(learner.report(tmp_path / "r.html", (x, y), **FAST))
    assert {"mistakes", "map", "absent"} <= set(page.sections)
    assert "no pictures here" in page.texts["absent"]
    assert not [tag for tag, _ in page.elements if tag == "img"]


def test_many_classes(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    y = np.arange(240) % 40
    x = random.integers(0, 255, (240, 8, 8, 3)).astype("u1")
    data = (x, np.array([f"class {code}" for code in y]))
    page = Page(probe(data).report(tmp_path / "r.html", data, audit=False, **FAST))
    assert "Most frequent confusions" in page.texts["classes"]
    assert "other classes" in page.texts["map"]
    assert len(re.findall(r"<tr>", page.source)) < 300


def test_only_a_page_of_ours_is_written_over(tmp_path: Path, photos: Path) -> None:
    learner = probe(photos)
    path = tmp_path / "r.html"
    path.write_text("mine")
    with pytest.raises(UsageError, match="no page of zoo's"):
        learner.report(path)
    assert path.read_text() == "mine"
    with pytest.raises(UsageError, match="no map"):
        learner.report(tmp_path / "s.html", map="umap")
    with pytest.raises(UsageError, match="cannot be explained"):
        learner.report(tmp_path / "s.html", explain=-1)
    with pytest.raises(UsageError, match="not fitted"):
        zoo.compose("tiny", "linear-probe", weights=None).report(tmp_path / "s.html")


def test_pictures_leave_what_is_not_pixels_behind(tmp_path: Path) -> None:
    import base64

    from zoo.report.pictures import picture

    exif = Image.Exif()
    exif[0x010E] = "at home, 52.1 N"
    file = tmp_path / "a.jpg"
    Image.new("RGB", (900, 300), (200, 0, 0)).save(file, exif=exif, comment=b"secret comment")
    found = picture(Image.open(file))
    assert found is not None
    content = base64.b64decode(found.src.partition(",")[2])
    assert b"home" not in content
    assert b"secret" not in content
    import io

    assert Image.open(io.BytesIO(content)).size == (256, 85)
    assert picture(np.zeros((8, 8), "u1")).tiny
    assert picture(np.zeros((3, 8, 8), "f4")) is None
    assert picture("text") is None


def test_occlusion_finds_what_a_prediction_rests_on(tmp_path: Path) -> None:
    """One bright corner tells the classes apart, so covering it is what hurts."""
    from zoo.data.open import open_data
    from zoo.report.occlusion import CELLS, occlude

    random = np.random.default_rng(0)
    y = np.arange(60) % 2
    x = random.integers(90, 130, (60, 28, 28, 3))
    x[y == 1, :8, :8] = 255
    learner = zoo.compose("source_cnn", "linear-probe", weights=None).fit((x.astype("u1"), y))
    split = open_data((x.astype("u1"), y), task_classes=learner.task).held_out
    found = occlude(learner, split, 1)
    assert found is not None
    heat = np.array(found.heat)
    assert heat.shape == (CELLS, CELLS)
    assert heat.max() == 1
    assert heat[:3, :3].sum() > 0.7 * heat.sum()
    assert found.output == "1"
    assert found.drop > 0.5


def test_worst_mistakes_come_first() -> None:
    from zoo.data.task import CLASSES, MULTI_LABEL, REGRESSION, Task
    from zoo.report.mistakes import worst

    chances = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]])
    found = worst(chances, np.array([1, 1, 1, 0]), Task(CLASSES, ("a", "b")))
    assert [(one.index, one.said, one.true) for one in found] == [
        (0, "a (90%)", "b (10%)"), (3, "b (70%)", "a (30%)"), (1, "a (60%)", "b (40%)")
    ]  # fmt: skip
    labels = worst(np.array([[0.9, 0.9], [0.2, 0.1], [0.6, 0.1]]), np.array([[1, 1], [1, 1], [0, 0]]),
                   Task(MULTI_LABEL, ("a", "b")))  # fmt: skip
    assert [(one.index, one.said, one.true) for one in labels] == [(1, "nothing", "a, b"), (2, "a", "nothing")]
    numbers = worst(np.array([[1.0, 0.0], [1.0, 50.0]]), np.array([[3.0, 0.0], [1.0, 100.0]]),
                    Task(REGRESSION, ("x", "y")), 1)  # fmt: skip
    assert [(one.index, one.said, one.true) for one in numbers] == [(0, "1, 0", "3, 0")]


def test_the_command_makes_the_run_again(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shlex

    from zoo.cli.app import run as cli
    from zoo.report.reproduce import command

    monkeypatch.chdir(tmp_path)
    (photos / "red").rename(photos / "really red")
    spaced = photos.rename(tmp_path / "my photos")
    first = ["fit", str(spaced), "-b", "tiny", "-s", "fine-tune", "-w", "none", "--set", "epochs=2", "--set", "lr=0.01",
             "--set", "head=mlp(8)", "--labels-per-class", "4", "--seed", "7", "-o", "one", "-q"]  # fmt: skip
    assert cli(first) == 0
    record = json.loads(Path("one/run.json").read_text())
    words = shlex.split(command(record) or "")
    assert words[0] == "zoo"
    assert cli([*words[1:], "-o", "two", "-q"]) == 0
    assert Path("one/model.safetensors").read_bytes() == Path("two/model.safetensors").read_bytes()
    assert command({**record, "call": {**record["call"], "data": {"object": "tuple"}}}) is None


def test_what_was_judged_beside_is_shown(tmp_path: Path, photos: Path) -> None:
    from dataclasses import replace

    learner = probe(photos)
    better = {"primary": "accuracy", "accuracy": 1.0, "interval": None, "n": 1, "split": "val"}
    worse = replace(learner.evaluation, scores={**learner.evaluation.scores, "accuracy": 0.5}, beside={"plain": better})
    learner.fitted = replace(learner.fitted, evaluation=worse)
    shutil.rmtree(photos)
    page = Page(learner.report(tmp_path / "r.html"))
    assert "plain has accuracy 1.000 on the same rows: it did not help" in page.texts["summary"]


def test_reported_rows_of_another_data_set(tmp_path: Path, photos: Path) -> None:
    other = pictures(tmp_path / "other", n=4)
    learner = zoo.compose("tiny", "linear-probe", weights=None).fit(photos, val=str(other))
    run = learner.save(tmp_path / "run")
    facts = write_report(zoo.load(run), tmp_path / "r.html", **FAST)
    assert facts["parity"] == 0
    assert "(8 rows)" in Page(tmp_path / "r.html").texts["summary"]


def test_a_network_of_two_inputs(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    y = np.arange(40) % 2
    tokens = random.integers(0, 20, (40, 6)) + 10 * y[:, None]
    data = ((tokens.astype("i8"), np.ones((40, 6), "f4")), y)
    learner = zoo.compose("tiny_pair", "linear-probe", weights=None).fit(data)
    page = Page(learner.report(tmp_path / "r.html", data, map="tsne"))
    assert {"classes", "probabilities", "mistakes", "map", "audit", "absent"} <= set(page.sections)
    assert "no pictures here" in page.texts["absent"]
    assert "t-SNE" in page.texts["map"]


def test_a_module_of_your_own(tmp_path: Path, photos: Path) -> None:
    import torch

    module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
                                 torch.nn.Flatten(), torch.nn.Linear(8, 5))  # fmt: skip
    how = zoo.Preprocessing(input_size=(3, 16, 16))
    learner = zoo.compose(module, "linear-probe", preprocessing=how).fit(photos)
    run = learner.save(tmp_path / "run")
    page = Page(zoo.load(run, backbone=module).report(tmp_path / "r.html", guard=True, **FAST))
    assert {"mistakes", "occlusion", "map", "guard"} <= set(page.sections)
    assert "composed in Python" in page.texts["reproduce"]


def test_it_can_be_used_by_keyboard(tmp_path: Path, photos: Path, browser: Chromium) -> None:
    browser.open(probe(photos).report(tmp_path / "r.html", explain=0, audit=False))
    browser.press("Tab")
    assert browser.run("document.activeElement.className") == "skip"
    assert browser.run("document.activeElement.getBoundingClientRect().left") >= 0  # it is seen when it is reached
    browser.press("Enter")
    assert browser.run("document.activeElement.id") == "main"
    reached = set()
    for _ in range(12):
        browser.press("Tab")
        reached.add(browser.run("document.activeElement.tagName"))
    assert {"SUMMARY", "INPUT", "PRE"} <= reached
    assert browser.run("Array.from(document.querySelectorAll('thead th')).every((one) => one.scope === 'col')")
    assert browser.run("Array.from(document.querySelectorAll('tbody th')).every((one) => one.scope === 'row')")
    assert browser.run(
        "Array.from(document.querySelectorAll('svg[role=img]')).every((one) => one.getAttribute('aria-label'))"
    )
    assert browser.run("document.querySelectorAll('h1').length") == 1


@pytest.mark.parametrize("value", ["<b>", {"<b>": None}, [[]]])
def test_a_run_of_any_record_is_refused_or_shown(tmp_path: Path, photos: Path, value: object) -> None:
    """And whatever is shown is text."""
    fitted = zoo.compose("tiny", "fine-tune", weights=None, epochs=1).fit(photos, guard=True)
    run = fitted.save(tmp_path / "run")
    shutil.rmtree(photos)
    text = (run / "run.json").read_text()
    path = tmp_path / "r.html"
    shown = 0
    for place in places(json.loads(text)):
        record = json.loads(text)
        *above, last = place
        holder = record
        for key in above:
            holder = holder[key]
        holder[last] = value
        (run / "run.json").write_text(json.dumps(record))
        try:
            learner = zoo.load(run)
        except zoo.ZooError:
            continue
        page = Page(learner.report(path))
        assert "b" not in {tag for tag, _ in page.elements}, place
        shown += 1
    assert shown > 3


def places(part: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value in a record."""
    inner = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    return [way for key, item in inner for way in [(*above, key), *places(item, (*above, key))]]
