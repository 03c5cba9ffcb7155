"""Where a network runs, with which precision, and why."""

from __future__ import annotations

import pytest
import torch

from zoo.errors import UsageError
from zoo.models import accelerator
from zoo.models.accelerator import PRECISIONS, choose, present


def pretend(monkeypatch: pytest.MonkeyPatch, kind: str | None, count: int = 1) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: kind is not None)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(kind))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("kind", "count", "names"),
    [
        (None, 0, ["cpu"]),
        ("cuda", 1, ["cuda", "cuda:0", "cpu"]),
        ("cuda", 2, ["cuda", "cuda:0", "cuda:1", "cpu"]),
        ("mps", 1, ["mps", "mps:0", "cpu"]),
    ],
)
def test_what_is_present(kind: str | None, count: int, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, kind, count)
    assert present() == names


def test_the_best_one_is_taken_and_the_reason_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "_fast_bf16", lambda _: False)
    pretend(monkeypatch, "cuda", 2)
    placed = choose()
    assert placed.device == torch.device("cuda")
    assert "runs on cuda (the best accelerator present)" in placed.reason
    assert choose("cuda:1").device == torch.device("cuda:1")
    assert "cpu (as asked for)" in choose("cpu").reason
    pretend(monkeypatch, None)
    assert choose().device == torch.device("cpu")
    assert "no accelerator is present" in choose().reason


def test_an_absent_one_is_an_error_that_lists_those_present(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "cuda", 1)
    for name in ("cuda:1", "mps", "tpu", ""):
        with pytest.raises(UsageError, match="no accelerator") as caught:
            choose(name)
        assert "cuda, cuda:0, cpu" in caught.value.hint


@pytest.mark.parametrize(("fast", "expected"), [(True, "bf16"), (False, "fp32")])
def test_precision_follows_the_hardware(fast: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "_fast_bf16", lambda _: fast)
    placed = choose("cpu")
    assert (placed.precision, placed.dtype, placed.mixed) == (expected, PRECISIONS[expected], fast)
    assert expected in placed.reason
    assert choose("cpu", "fp32").precision == "fp32"


def test_precisions_that_do_not_exist() -> None:
    with pytest.raises(UsageError, match="no precision 'fp8'"):
        choose("cpu", "fp8")
    with pytest.raises(UsageError, match="fp16 is not for the cpu"):
        choose("cpu", "fp16")


@pytest.mark.parametrize(
    ("kind", "capability", "fast"), [("cuda", (7, 5), False), ("cuda", (8, 0), True), ("cuda", (9, 0), True)]
)
def test_fast_bf16(kind: str, capability: tuple[int, int], fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert accelerator._fast_bf16(torch.device(kind)) is fast
    assert accelerator._fast_bf16(torch.device("mps")) is False
    assert accelerator._fast_bf16(torch.device("xpu")) is True


@pytest.mark.parametrize(("avx", "amx"), [(True, False), (False, True), (False, False)])
def test_fast_bf16_on_the_cpu(avx: bool, amx: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert accelerator._fast_bf16(torch.device("cpu")) is (avx or amx)


def test_autocast_computes_in_the_chosen_type() -> None:
    layer, x = torch.nn.Linear(4, 4), torch.ones(2, 4)
    for precision in ("fp32", "bf16"):
        placed = choose("cpu", precision)
        with placed.autocast():
            assert layer(x).dtype == placed.dtype
        assert layer.weight.dtype == torch.float32
    assert placed.memory_format == torch.channels_last
