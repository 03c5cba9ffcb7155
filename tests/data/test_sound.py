"""Recordings: read, refused, and seen as log-mel pictures."""

from __future__ import annotations

import io
import math
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from scipy.signal import ShortTimeFFT, get_window, resample_poly

import zoo
from zoo.catalog.spec import Preprocessing
from zoo.data import spectrogram
from zoo.data.open import open_data
from zoo.data.preprocess import reader
from zoo.data.sound import SOUND, Sound
from zoo.data.spectrogram import LogMel, mel_filters
from zoo.errors import DataError, UsageError

RATE = 8000


def tone(hz: float, seconds: float = 0.3, rate: int = RATE, seed: int = 0) -> np.ndarray:
    t = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(size=len(t)) * 0.05
    return (0.5 * np.sin(2 * np.pi * hz * t) + noise).astype("f4")


def wav(samples: np.ndarray, rate: int = RATE, **options: str) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, **{"format": "WAV", **options})
    return stream.getvalue()


def with_rate(rate: int) -> bytes:
    """A tiny recording whose header says this rate."""
    content = wav(tone(300)[:10])
    return content[:24] + rate.to_bytes(4, "little") + content[28:]


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    """Low and high tones."""
    for i in range(24):
        path = tmp_path / "voices" / ("low", "high")[i % 2] / f"{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(wav(tone((300, 1500)[i % 2] + 5 * i, 0.2 + 0.01 * i, seed=i)))
    return tmp_path / "voices"


@pytest.mark.parametrize("form", [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_16"), ("OGG", "VORBIS")])
def test_every_format_is_decoded_and_channels_become_their_mean(form: tuple[str, str]) -> None:
    left, right = tone(300), tone(700)
    found = SOUND.decode(wav(np.stack([left, right], axis=1), format=form[0], subtype=form[1]))
    assert found.rate == RATE
    assert found.seconds == pytest.approx(0.3)
    assert np.abs(found.samples - (left + right) / 2).max() < (0.2 if form[0] == "OGG" else 1e-4)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (wav(np.zeros(0, "f4")), "no sound at all"),
        (wav(np.full(10, np.nan, "f4"), subtype="FLOAT"), "NaN or infinite"),
        (b"RIFF\x00\x00\x00\x00WAVEjunk", "."),
        (b"not a recording", "Format not recognised"),
        (with_rate(1), "1 samples a second"),
        (with_rate(2**31 - 1), "2147483647 samples a second"),
        (wav(tone(300))[:2422], "cut short: 2378 of 4800 bytes"),
        (wav(tone(300))[:20], "."),
    ],
)
def test_what_is_no_recording_is_named(voices: Path, content: bytes, why: str) -> None:
    bad = voices / "low" / "bad.wav"
    bad.write_bytes(content)
    with pytest.raises(DataError, match="1 of 25 recordings cannot be read") as caught:
        open_data(voices)
    assert "bad.wav" in str(caught.value)
    assert re.search(why, str(caught.value))
    assert len(open_data(voices, skip_bad=True)) == 24


@pytest.mark.parametrize("form", [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAVEX", "PCM_16"), ("AIFF", "PCM_16"),
                                  ("AIFF", "FLOAT"), ("MP3", "MPEG_LAYER_III"), ("FLAC", "PCM_16")])  # fmt: skip
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 44100])
def test_half_a_recording_is_refused(form: tuple[str, str], channels: int, rate: int) -> None:
    samples = np.stack([tone(300, 0.5, rate)] * channels, axis=1)
    content = wav(samples, rate, format=form[0], subtype=form[1])
    assert SOUND.problem(content) == ""
    for part in (0.5, 0.9):
        assert SOUND.problem(content[: int(part * len(content))])
    if form[0] not in ("FLAC", "MP3"):
        with pytest.raises(DataError, match="cut short"):
            SOUND.decode(content[:-2])


def test_an_mp3_after_a_tag_and_before_one() -> None:
    plain = wav(tone(300), format="MP3")
    content = b"ID3\x04\0\0\0\0\x01\x00" + bytes(128) + plain
    assert SOUND.problem(content + b"TAG" + bytes(125)) == ""
    assert f"{len(plain) - 9} of {len(plain)} bytes" in SOUND.problem(content[:-9])


@pytest.mark.parametrize(("whole", "data"), [(8, 0), (2**31 - 4060, 2**31 - 4096), (2**32 - 1, 2**32 - 1)])
def test_a_stream_of_unknown_length_is_read(whole: int, data: int) -> None:
    samples = tone(300)
    content = wav(samples)
    content = content[:4] + whole.to_bytes(4, "little") + content[8:40] + data.to_bytes(4, "little") + content[44:]
    assert SOUND.problem(content) == ""
    assert len(SOUND.decode(content).samples) == len(samples)


def test_the_mean_of_loud_channels_is_finite() -> None:
    content = wav(np.full((40, 2), 3e38, "f4"), subtype="FLOAT")
    np.testing.assert_array_equal(SOUND.decode(content).samples, np.float32(3e38))
    infinite = wav(np.tile(np.array([np.inf, -np.inf], "f4"), (40, 1)), subtype="FLOAT")
    assert SOUND.problem(infinite) == "NaN or infinite samples"


def test_pictures_and_recordings_do_not_mix(voices: Path) -> None:
    Image.new("L", (8, 8)).save(voices / "low" / "a.png")
    with pytest.raises(DataError, match="files of several kinds"):
        open_data(voices)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_powers_are_those_of_the_formula(rate: int) -> None:
    """Against SciPy's transform, and triangles drawn one by one on Slaney's scale."""
    samples = tone(440, 0.25, rate)
    mel = LogMel(rate=rate, bands=20)
    window = np.zeros(mel.size)
    start = (mel.size - mel.length) // 2
    window[start : start + mel.length] = get_window("hann", mel.length)
    transform = ShortTimeFFT(window, mel.step, rate, phase_shift=None)
    frames = 1 + len(samples) // mel.step
    spectrum = transform.stft(samples.astype("f8"), p0=0, p1=frames, k_offset=0)
    power = np.abs(spectrum) ** 2

    def to_mel(hz: float) -> float:
        return hz * 3 / 200 if hz < 1000 else 15 + 27 * math.log(hz / 1000) / math.log(6.4)

    def to_hz(mel: float) -> float:
        return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)

    edges = [to_hz(to_mel(rate / 2) * i / 21) for i in range(22)]
    bins = np.arange(mel.size // 2 + 1) * rate / mel.size
    expected = np.zeros((20, frames))
    for band, (a, b, c) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        triangle = np.interp(bins, [a, b, c], [0, 1, 0], left=0, right=0)
        expected[band] = 2 / (c - a) * triangle @ power
    found = mel.powers(Sound(samples, rate))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    picture = mel(Sound(samples, rate))
    decibels = np.maximum(10 * np.log10(np.maximum(expected, 1e-10) / expected.max()), -80)
    np.testing.assert_allclose(picture, 1 + decibels / 80, atol=1e-6)


def test_filters_have_unit_area() -> None:
    """Slaney's normalisation, up to the width of a bin."""
    filters = mel_filters(16000, 8192, 40, 0.0, 8000.0)
    np.testing.assert_allclose(filters.sum(axis=1) * 16000 / 8192, 1, rtol=1e-3)


def test_another_rate_gives_nearly_the_same_picture() -> None:
    mel = LogMel(rate=8000, bands=32)
    rates = (8000, 44100)
    waves = [np.sin(2 * np.pi * 440 * np.arange(rate // 2) / rate).astype("f4") for rate in rates]
    a, b = (mel(Sound(wave, rate)) for wave, rate in zip(waves, rates, strict=True))
    assert np.abs(a - b)[:, 2:-2].mean() < 0.02


@pytest.mark.parametrize("in_chans", [1, 3])
def test_a_network_of_pictures_hears(in_chans: int) -> None:
    """Low tones light the lower half, high ones the upper; the size is the network's, mean and deviation its own."""
    plain = Preprocessing(input_size=(3, 32, 24), mean=(0.5, 0.25, 0.75), std=(0.5, 0.5, 0.25))
    read = reader(plain, in_chans)
    low, high = (read(Sound(tone(hz, 0.4, 16000), 16000)) for hz in (200, 6000))
    assert low.shape == (in_chans, 32, 24)
    assert low.dtype == torch.float32
    assert low[0, 16:].mean() > low[0, :16].mean()
    assert high[0, :16].mean() > high[0, 16:].mean()
    if in_chans == 3:
        back = low * torch.tensor(plain.std)[:, None, None] + torch.tensor(plain.mean)[:, None, None]
        torch.testing.assert_close(back[0], back[2])
        assert back.min() >= -1e-6
        assert back.max() <= 1 + 1e-6


def test_a_length_is_cut_or_filled() -> None:
    mel = LogMel(seconds=0.5, bands=8)
    for seconds in (0.1, 0.5, 2.0):
        assert mel(Sound(tone(300, seconds, 16000), 16000)).shape == (8, 51)


@pytest.mark.parametrize(
    ("extra", "says"),
    [({"bandz": 3}, "bandz"), ({"rate": "8k"}, "rate"), ({"window": -1}, "window"), ({"low": 9000}, "9000"),
     ({"high": 9000.0}, "9000"), ({"bands": 0}, "bands"), ({"bands": 64.5}, "bands is 64.5"),
     ({"rate": 16000.5}, "rate is 16000.5"), ({"rate": 10**9}, "rate"), ({"window": 10_001}, "window"),
     ({"hop": 1e9}, "hop"), ({"bands": 1025}, "bands"), ({"seconds": 3601}, "seconds"),
     ({"seconds": float("inf")}, "seconds"), ({"range_db": float("nan")}, "range_db"), ({"rate": 999}, "rate")],
)  # fmt: skip
def test_settings_that_mean_nothing(extra: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        reader(Preprocessing(kind="audio", extra=extra))


def test_whole_numbers_may_be_written_as_floats() -> None:
    found = LogMel.of({"rate": 16000.0, "bands": 64.0})
    assert found == LogMel(bands=64)
    assert isinstance(found.rate, int)
    assert isinstance(found.bands, int)
    assert found(Sound(tone(300, rate=44100), 44100)).shape == (64, 31)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("wanted", [8000, 16000])
@pytest.mark.parametrize("length", [0.2, 0.5, 1.3, 3.00017])
def test_a_cut_before_resampling_is_the_cut_after_it(rate: int, wanted: int, length: float) -> None:
    """The middle of all samples resampled, filled with silence at the end."""
    sound = Sound(np.random.default_rng(0).normal(size=int(length * rate)).astype("f4"), rate)
    common = math.gcd(rate, wanted)
    whole = resample_poly(sound.samples.astype("f8"), wanted // common, rate // common)
    found = LogMel(rate=wanted)._at_rate(sound, -7, len(whole) + 7)
    np.testing.assert_allclose(found, np.pad(whole, 7), rtol=0, atol=1e-12)
    start = max(0, len(whole) - wanted // 2) // 2
    expected = whole[start : start + wanted // 2]
    found = LogMel(rate=wanted, seconds=0.5)._at_rate(sound, 0, wanted // 2)
    np.testing.assert_allclose(found, np.pad(expected, (0, wanted // 2 - len(expected))), rtol=0, atol=1e-12)


@pytest.mark.parametrize("held", [1, 512 * 7])
@pytest.mark.parametrize("rate", [16000, 44100, 8000])
@pytest.mark.parametrize("seconds", [0, 0.7, 1.4])
def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, held: int, rate: int, seconds: float) -> None:
    sound, mel = Sound(tone(300, 1.0, rate), rate), LogMel(bands=16, seconds=seconds)
    expected = mel.powers(sound)
    monkeypatch.setattr(spectrogram, "_HELD", held)
    np.testing.assert_allclose(mel.powers(sound), expected, rtol=1e-9, atol=1e-13)


def test_a_long_recording_needs_little_memory() -> None:
    """Ten minutes: all frames at once would be 490 MB of spectra, the samples as float64 77 MB."""
    sound = Sound(np.zeros(600 * 16_000, "f4"), 16_000)
    tracemalloc.start()
    picture = LogMel(bands=16)(sound)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert picture.shape == (16, 60_001)
    assert peak < 200e6


def test_silence_is_black() -> None:
    for level in (0, 1e-7):
        picture = LogMel(bands=8)(Sound(np.full(8000, level, "f4"), 16000))
        assert picture.dtype == np.float32
        assert not picture.any()
    assert LogMel(bands=8)(Sound(tone(300, rate=16000) * np.float32(1e-2), 16000)).max() == 1


@pytest.mark.parametrize("raw", [np.zeros((8, 8), "u1"), Image.new("L", (8, 8))])
def test_an_audio_network_refuses_pictures(raw: object) -> None:
    with pytest.raises(DataError, match="a recording is expected"):
        reader(Preprocessing(kind="audio"))(raw)


def test_fit_save_load_and_predict_recordings(voices: Path, tmp_path: Path) -> None:
    """What is learned from files is the same from recordings in memory, and after loading."""
    learner = zoo.compose("source_cnn", "linear-probe", weights=None).fit(voices, val=None)
    assert learner.evaluation.accuracy == 1
    run = learner.save(tmp_path / "run")
    again = zoo.load(run)
    files = sorted(voices.rglob("*.wav"))
    found = again.predict([str(path) for path in files])
    assert found.tolist() == [path.parent.name for path in files]
    sounds = [SOUND.decode(path.read_bytes()) for path in files]
    np.testing.assert_allclose(again.predict_proba(sounds), again.predict_proba([str(p) for p in files]), atol=1e-6)


def test_an_audit_of_recordings_finds_copies(voices: Path) -> None:
    (voices / "high" / "copy.wav").write_bytes((voices / "low" / "0.wav").read_bytes())
    found = zoo.audit(voices)
    assert [Path(one["path"]).name for one in found.duplicates] in (["0.wav"], ["copy.wav"])
