"""Samples inside a page: recordings are seen and can be played, texts are read, rows are small tables."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
from contrast import CONTRAST
from PIL import Image
from test_report import HOSTILE, Page

import zoo
from zoo.data.sound import Sound
from zoo.report.samples import COLUMNS, RATE, SECONDS, TEXT, Shown, shown

if TYPE_CHECKING:
    from chromium import Chromium

#: Seconds of the first recording of a page, once the browser has read it; -1 where it cannot.
DURATION = """new Promise((done) => {
  const one = document.querySelector('audio');
  one.addEventListener('loadedmetadata', () => done(one.duration));
  one.addEventListener('error', () => done(-1));
  one.preload = 'auto';
  one.load();
})"""


def tone(hz: float, seconds: float, rate: int = 8000) -> Sound:
    t = np.arange(int(seconds * rate)) / rate
    return Sound((0.5 * np.sin(2 * np.pi * hz * t)).astype("f4"), rate)


def decoded(uri: str) -> bytes:
    return base64.b64decode(uri.partition("base64,")[2])


class TestRecordings:
    def test_low_tones_are_at_the_bottom(self) -> None:
        for hz, below in ((300, True), (3500, False)):
            picture = shown(tone(hz, 0.4)).picture
            assert picture is not None
            rows = np.asarray(Image.open(io.BytesIO(decoded(picture.src))).convert("L")).mean(axis=1)
            assert (rows.argmax() > len(rows) / 2) == below

    @pytest.mark.parametrize(
        ("rate", "seconds"), [(8000, 0.4), (16_000, 2.0), (44_100, 1.0), (8000, 9.0), (48_000, 7.0)]
    )
    def test_what_is_played_is_the_recording(self, rate: int, seconds: float) -> None:
        given = tone(440, seconds, rate)
        found = shown(given)
        assert found.sound is not None
        assert found.sound.startswith("data:audio/wav;base64,")
        samples, played = soundfile.read(io.BytesIO(decoded(found.sound)))
        assert played == min(rate, RATE)
        assert len(samples) / played == pytest.approx(min(seconds, SECONDS), abs=1e-3)
        spectrum = np.abs(np.fft.rfft(samples))
        assert spectrum.argmax() * played / len(samples) == pytest.approx(440, abs=3)
        if rate <= RATE:
            assert np.abs(samples - given.samples[: len(samples)]).max() < 1e-4
        assert (found.more == "") == (seconds <= SECONDS)

    def test_what_is_too_loud_is_cut_and_silence_is_black(self) -> None:
        loud = shown(Sound(np.array([3.0, -3.0] * 400, "f4"), 8000))
        samples, _ = soundfile.read(io.BytesIO(decoded(str(loud.sound))))
        assert np.abs(samples).max() <= 1
        silent = shown(Sound(np.zeros(800, "f4"), 8000)).picture
        assert silent is not None
        assert np.asarray(Image.open(io.BytesIO(decoded(silent.src)))).max() == 0


class TestWhatIsRead:
    def test_texts_and_their_beginning(self) -> None:
        assert shown("A text.\nOf two lines.") == Shown(text="A text.\nOf two lines.")
        assert shown("") == Shown(text="")
        assert shown("")  # an empty text can be shown: it is empty
        long = shown("word " * 1000)
        assert long.text is not None
        assert len(long.text) <= TEXT
        assert long.text.endswith("…")
        assert long.more == "5,000 characters"

    def test_rows_are_cells(self) -> None:
        row = {"age": 31, "amount": 1234.56789, "purpose": "car", "known": True, "job": None, "rate": float("nan")}
        assert dict(shown(row).cells) == {
            "age": "31", "amount": "1234.57", "purpose": "car", "known": "True", "job": None, "rate": None,
        }  # fmt: skip
        many = shown({f"c{i}": "x" * 500 for i in range(40)})
        assert len(many.cells) == COLUMNS
        assert many.more == f"and {40 - COLUMNS} more columns"
        assert all(len(value or "") <= 60 for _, value in many.cells)

    def test_what_is_none_of_these_is_not_shown(self) -> None:
        assert not shown(np.zeros((3, 8, 8), "f4"))
        assert not shown({})
        assert shown(np.zeros((8, 8, 3), "u1"))


@pytest.mark.usefixtures("tiny_plugin")
def test_a_report_of_recordings(tmp_path: Path, browser_or_none: Chromium | None) -> None:
    random = np.random.default_rng(0)
    for i in range(40):
        file = tmp_path / "data" / ("low", "high")[i % 2] / f"{i}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, tone(random.uniform(300, 900), 0.3).samples, 8000)
    soundfile.write(tmp_path / "data" / "high" / "x.wav", tone(500, 0.3).samples, 8000)
    soundfile.write(tmp_path / "data" / "low" / "x.wav", tone(500, 0.3).samples, 8000)
    learner = zoo.compose("tiny", "linear-probe", weights=None).fit(tmp_path / "data")
    path = learner.report(tmp_path / "r.html", map="pca", explain=2)
    page = Page(path)
    wrong = round(learner.evaluation.n * (1 - learner.evaluation.accuracy))
    assert wrong > 0  # tones were drawn without regard to their class
    section = page.source.split('id="mistakes"')[1].split("</section>")[0]
    assert section.count("<img ") == section.count("<audio controls") == min(wrong, 12)
    assert "occlusion" not in page.sections
    assert "no pictures here" in page.texts["absent"]
    assert page.source.split('id="audit"')[1].count("<audio") >= 2  # the two copies, side by side
    assert path.stat().st_size < 1_000_000
    card = (learner.save(tmp_path / "run") / "README.md").read_text()
    assert 'learner.predict(["recording.wav"])' in card
    assert "audio-classification" in card
    if browser_or_none is not None:
        for dark in (False, True):
            browser_or_none.open(path, dark=dark)
            assert browser_or_none.complaints == []
            assert browser_or_none.requests == []
            assert browser_or_none.run(CONTRAST) == []
        assert browser_or_none.run(DURATION) == pytest.approx(0.3, abs=0.01)
        browser_or_none.open(path, width=390)
        assert browser_or_none.run("document.documentElement.scrollWidth") <= 390


def noise(folder: Path, kind: str) -> Path:
    """Texts, or rows of a table, that say nothing of their class; some would be markup, were they not escaped."""
    random = np.random.default_rng(0)
    lines = ["text,label" if kind == "text" else "age,amount,job,label"]
    for i in range(60):
        word = random.choice(["plain", HOSTILE, "long " * 300])
        age = "" if random.random() < 0.3 else str(random.integers(20, 60))
        cells = (
            [f"{word} {i}"]
            if kind == "text"
            else [age, f"{random.normal(2, 0.5):.3f}", random.choice(["cook", HOSTILE])]
        )
        lines.append(",".join('"' + cell.replace('"', '""') + '"' if cell else "" for cell in [*cells, f"c{i % 2}"]))
    lines += [lines[1].replace("c0", "c1"), lines[2].replace("c1", "c0")]  # copies, under another label
    file = folder / f"{kind}.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.mark.usefixtures("tiny_plugin")
@pytest.mark.parametrize(("kind", "backbone"), [("text", "tiny_text"), ("table", "tiny_rows")])
def test_a_report_of_what_is_read(kind: str, backbone: str, tmp_path: Path, browser_or_none: Chromium | None) -> None:
    data = noise(tmp_path, kind)
    learner = zoo.compose(backbone, "linear-probe", weights=None).fit(data)
    path = learner.report(tmp_path / "r.html", map="pca", explain=2)
    page = Page(path)
    wrong = round(learner.evaluation.n * (1 - learner.evaluation.accuracy))
    assert wrong > 0
    section = page.source.split('id="mistakes"')[1].split("</section>")[0]
    element = {"text": "<blockquote>", "table": '<table class="row">'}[kind]
    assert section.count(element) == min(wrong, 12)
    assert "no pictures here" in page.texts["absent"]
    assert "occlusion" not in page.sections
    assert page.source.split('id="audit"')[1].split("</section>")[0].count(element) >= 4  # two pairs of copies
    assert not [tag for tag, _ in page.elements if tag in ("img", "audio")]
    assert [one for tag, one in page.elements if tag == "script"] == [{}]
    assert "<script>alert" not in page.source
    assert "alert(1)" in page.texts["mistakes"] + page.texts["audit"]
    if kind == "table":
        assert "missing" in page.texts["mistakes"] + page.texts["audit"]
    card = (learner.save(tmp_path / "run") / "README.md").read_text()
    given, hub = {"text": ('["A text."]', "text-classification"), "table": ('"rows.csv"', "tabular-classification")}[
        kind
    ]
    assert f"learner.predict({given})" in card
    assert f"pipeline_tag: {hub}" in card
    if browser_or_none is not None:
        for dark in (False, True):
            browser_or_none.open(path, dark=dark)
            assert browser_or_none.complaints == []
            assert browser_or_none.requests == []
            assert browser_or_none.run(CONTRAST) == []
        browser_or_none.open(path, width=390)
        assert browser_or_none.run("document.documentElement.scrollWidth") <= 390
