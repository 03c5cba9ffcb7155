"""Recordings through the whole command: what is refused, with which exit code, and what is treated and how."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

TINY = ("-b", "tiny", "-w", "none", "-s", "linear-probe")
RATE = 8000

pytestmark = pytest.mark.usefixtures("tiny_plugin")


def tone(hz: float, rate: int = RATE, seconds: float = 0.3) -> np.ndarray:
    t = np.arange(int(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * hz * t)).astype("f4")


def wav(samples: np.ndarray, rate: int = RATE) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format="WAV")
    return stream.getvalue()


def with_bytes(content: bytes, place: int, new: bytes) -> bytes:
    return content[:place] + new + content[place + len(new) :]


#: Name -> what is wrong, and what is said of it.
BAD = {
    "no samples": (wav(np.zeros(0, "f4")), "no sound at all: its length is zero"),
    "no bytes": (b"", ""),
    "corrupt name": (with_bytes(wav(tone(300)), 0, b"JUNK"), "Format not recognised"),
    "corrupt chunk": (with_bytes(wav(tone(300)), 12, b"\xff" * 12), ""),
    "corrupt rate": (with_bytes(wav(tone(300)), 24, (2**31 - 1).to_bytes(4, "little")), "2147483647 samples a second"),
    "no rate": (with_bytes(wav(tone(300)), 24, bytes(4)), ""),
    "cut short": (wav(tone(300))[:2422], "cut short: 2378 of 4800 bytes of sound"),
    "a header alone": (wav(tone(300))[:44], "cut short: 0 of 4800 bytes"),
    "a text": (b"hello, this is no recording", "Format not recognised"),
}


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    """Twelve low and twelve high tones."""
    for i in range(24):
        path = tmp_path / "voices" / ("low", "high")[i % 2] / f"{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(wav(tone((300, 1500)[i % 2] + 5 * i)))
    return tmp_path / "voices"


@pytest.mark.parametrize("what", BAD)
def test_what_is_refused(what: str, cli: Callable[..., Any], voices: Path) -> None:
    content, says = BAD[what]
    bad = voices / "low" / "bad.wav"
    bad.write_bytes(content)
    said = cli("fit", voices, *TINY, "-o", "run")
    assert said.code == 7
    assert said.out == ""
    assert "error[data]" in said.err
    assert "Traceback" not in said.err
    for text in ("1 of 25 recordings cannot be read", str(bad), says, "--skip-bad"):
        assert text in said.err
    assert list(Path.cwd().iterdir()) == []
    assert bad.read_bytes() == content
    said = cli("fit", voices, *TINY, "--skip-bad", "-o", "run")
    assert said.code == 0, said.err
    assert "1 unreadable recording" in said.err
    assert "bad.wav" in said.err
    said = cli("predict", "run", bad)
    assert said.code == 7
    assert "bad.wav" in said.err
    assert "Traceback" not in said.err


def test_what_is_treated(cli: Callable[..., Any], voices: Path) -> None:
    """Another rate is resampled, several channels become their mean, as docs/audio.md says: the labels are the same."""
    assert cli("fit", voices, *TINY, "-o", "run").code == 0
    given = {
        "other rate": wav(tone(320, 44_100), 44_100),
        "stereo": wav(np.stack([tone(320), tone(320)], axis=1)),
        "one channel silent": wav(np.stack([tone(320), 0 * tone(320)], axis=1)),
        "stereo at another rate": wav(np.stack([tone(320, 22_050)] * 2, axis=1), 22_050),
        "as learned": wav(tone(320)),
    }
    for name, content in given.items():
        Path(f"{name}.wav").write_bytes(content)
    found = cli("predict", "run", *(f"{name}.wav" for name in given), "--json")
    assert found.code == 0, found.err
    chances = {Path(one["path"]).stem: one for one in found.json}
    assert {one["label"] for one in chances.values()} == {"low"}
    plain = chances["as learned"]["probability"]
    for name in ("stereo", "one channel silent"):
        assert chances[name]["probability"] == pytest.approx(plain, abs=1e-3), name
