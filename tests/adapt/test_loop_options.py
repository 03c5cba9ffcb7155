"""Accumulation, averaging, early stopping, and memory that runs out: each against a loop written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import zoo
from zoo.adapt.averaging import Averaged
from zoo.adapt.learner import Learner
from zoo.adapt.memory import OutOfMemoryError, is_out_of_memory
from zoo.adapt.stepper import parts_of
from zoo.data.loading import Batch
from zoo.errors import UsageError
from zoo.testing.networks import Tiny


@pytest.fixture
def pictures() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(1)
    y = np.arange(60) % 3
    x = np.eye(3)[y][:, None, None, :] * 60 + generator.integers(0, 190, (60, 8, 8, 3))
    return x.astype(np.uint8), y


@pytest.fixture
def compose(tiny_plugin: str) -> Any:
    def call(strategy: str = "from-scratch", **more: Any) -> Learner:
        options: dict[str, Any] = {"seed": 3, "precision": "fp32", "epochs": 3, "batch_size": 12}
        return zoo.compose("tiny", strategy, weights=None, **{**options, **more})

    return call


def state(learner: Learner) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}


def assert_same(one: Learner, other: Learner) -> None:
    for name, tensor in state(one).items():
        assert torch.equal(tensor, state(other)[name]), name


class NoDropout(Tiny):
    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Identity()


class TestAccumulate:
    @pytest.mark.parametrize("parts", [2, 5])
    @pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
    def test_the_parts_are_the_whole(self, parts: int, optimizer: str, pictures) -> None:
        """BatchNorm frozen, no dropout: to 1e-6."""
        x, y = pictures
        x = torch.from_numpy(x).permute(0, 3, 1, 2) / 255.0
        torch.manual_seed(0)
        module = NoDropout()
        options = {"epochs": 3, "batch_size": 12, "optimizer": optimizer, "batchnorm": "frozen", "precision": "fp32"}
        whole, divided = (
            zoo.compose(module, "fine-tune", accumulate=count, **options).fit((x, y)) for count in (1, parts)
        )
        for name, tensor in state(whole).items():
            torch.testing.assert_close(state(divided)[name], tensor, atol=1e-6, rtol=1e-5, msg=name)
        assert not torch.equal(state(whole)["head.weight"], module.classifier.weight)
        for one, other in zip(whole.history, divided.history, strict=True):
            assert one["loss"] == pytest.approx(other["loss"], rel=1e-5, abs=1e-6)

    def test_parts(self) -> None:
        batch = Batch((torch.arange(11), torch.arange(22).reshape(11, 2)), torch.arange(11), torch.arange(11))
        for count, least, sizes in ((1, 1, [11]), (3, 1, [4, 3, 4]), (50, 1, [1] * 11), (9, 2, [2, 2, 3, 2, 2])):
            parts = parts_of(batch, count, least=least)
            assert sorted(map(len, parts)) == sorted(sizes)
            assert torch.cat([part.index for part in parts]).tolist() == list(range(11))
            assert all(len(part.x[1]) == len(part) for part in parts)

    def test_no_part_of_one_row_where_batchnorm_trains(self, compose, pictures) -> None:
        compose(accumulate=50, epochs=1).fit(pictures)


class TestAverage:
    def test_it_is_the_formula(self) -> None:
        generator = torch.Generator().manual_seed(0)
        weights = {"w": torch.randn(4, generator=generator), "n": torch.tensor(0)}
        average = Averaged(weights, 0.8)
        expected = weights["w"].double().clone()
        for step in range(1, 60):
            weights["w"].copy_(torch.randn(4, generator=generator))
            weights["n"] += 1
            average.update(step)
            kept = min(0.8, (1 + step) / (10 + step))
            expected = kept * expected + (1 - kept) * weights["w"].double()
        torch.testing.assert_close(average.values["w"].double(), expected, atol=1e-6, rtol=1e-5)
        assert int(average.values["n"]) == 59
        with average.in_place():
            torch.testing.assert_close(weights["w"].double(), expected, atol=1e-6, rtol=1e-5)
        assert not torch.allclose(weights["w"].double(), expected)

    def test_the_fit_ends_with_it(self, compose, pictures, monkeypatch: pytest.MonkeyPatch) -> None:
        """Against every step's weights, averaged by hand."""
        seen: list[Tensor] = []
        step = torch.optim.AdamW.step

        def watched(self: Any, *args: Any, **more: Any) -> Any:
            found = step(self, *args, **more)
            seen.append(self.param_groups[-2]["params"][0].detach().clone())
            return found

        with monkeypatch.context() as patch:
            patch.setattr(torch.optim.AdamW, "step", watched)
            plain, learner = compose().fit(pictures), compose(ema=0.9)
            first = seen[:]
            seen.clear()
            learner.fit(pictures)
        assert all(torch.equal(a, b) for a, b in zip(first, seen, strict=True)), "it changes no step"
        assert torch.equal(first[-1], state(plain)["head.weight"])
        average = _start_of(compose(), pictures)
        for t, weight in enumerate(seen, start=1):
            kept = min(0.9, (1 + t) / (10 + t))
            average = kept * average + (1 - kept) * weight
        torch.testing.assert_close(state(learner)["head.weight"], average, atol=1e-6, rtol=1e-5)

    def test_it_is_resumed(self, compose, pictures, tmp_path: Path) -> None:
        whole = compose(ema=0.9).fit(pictures)
        _break_off(compose(ema=0.9), pictures, tmp_path / "run", 6)
        assert_same(whole, compose(ema=0.9).fit(pictures, resume=tmp_path / "run"))

    @pytest.mark.parametrize("value", [1.0, -0.1])
    def test_impossible(self, value: float, compose) -> None:
        with pytest.raises(UsageError, match="ema"):
            compose(ema=value)


class TestEarlyStop:
    def test_it_stops_and_keeps_the_best(self, compose, pictures) -> None:
        """lr so large that the inner loss soon rises; every epoch's weights are kept by hand."""
        x, y = pictures
        kept: list[dict[str, Tensor]] = []

        class Watch:
            @zoo.hookimpl
            def zoo_epoch_end(self, learner, epoch, metrics):
                kept.append({"inner": metrics["inner_loss"]})

        name = zoo.register(Watch())
        try:
            learner = compose(early_stop=2, epochs=60, lr=0.3).fit((x, y))
        finally:
            zoo.unregister(name)
        losses = [epoch["inner_loss"] for epoch in learner.history]
        best = int(np.argmin(losses))
        assert len(losses) == best + 3 < 60
        assert kept == [{"inner": loss} for loss in losses]
        assert learner.record["data"]["rows"] == {"train": 38, "unlabelled": 0, "val": 12, "inner": 10}
        # The same fit, ended at the best epoch: a constant rate makes its steps the same.
        constant = {"schedule": "constant", "early_stop": 2, "lr": 0.3}
        stopped = compose(epochs=60, **constant).fit((x, y))
        best = int(np.argmin([epoch["inner_loss"] for epoch in stopped.history]))
        assert best < len(stopped.history) - 1
        assert_same(stopped, compose(epochs=best + 1, **constant).fit((x, y)))

    def test_the_reported_rows_choose_nothing(self, compose, pictures) -> None:
        """Other reported labels, same weights."""
        x, y = pictures
        one = compose(early_stop=1).fit((x[:48], y[:48]), val=(x[48:], y[48:]))
        other = compose(early_stop=1).fit((x[:48], y[:48]), val=(x[48:], np.roll(y[48:], 1)))
        assert_same(one, other)

    @pytest.mark.parametrize("step", [4, 8, 13])
    def test_it_is_resumed(self, step: int, compose, pictures, tmp_path: Path) -> None:
        options = {"early_stop": 2, "epochs": 8, "lr": 0.3, "ema": 0.5}
        whole = compose(**options).fit(pictures)
        _break_off(compose(**options), pictures, tmp_path / "run", step)
        again = compose(**options).fit(pictures, resume=tmp_path / "run")
        assert_same(whole, again)
        assert [e["inner_loss"] for e in whole.history] == [e["inner_loss"] for e in again.history]


class TestMemory:
    @pytest.fixture
    def small(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """A device on which a step of more than 5 rows does not fit; gives the sizes that were tried."""
        from zoo_plugins.strategies.from_scratch.strategy import FromScratch

        loss, tried = FromScratch.loss, []

        def limited(self, model, batch, context):
            tried.append(len(batch.y))
            if len(batch.y) > 5:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return loss(self, model, batch, context)

        monkeypatch.setattr(FromScratch, "loss", limited)
        return tried

    def test_it_says_what_fits(self, compose, pictures, small: list[int]) -> None:
        with pytest.raises(OutOfMemoryError, match="12 rows") as caught:
            compose().fit(pictures)
        assert caught.value.exit_code == 7
        assert caught.value.fits == 3
        assert "--batch-size 3" in caught.value.hint
        assert "Tried to allocate" in caught.value.why
        assert small == [12, 6, 3]

    @pytest.mark.parametrize("kept", [False, True])
    def test_auto_finds_it(self, kept: bool, compose, pictures, small: list[int], tmp_path: Path) -> None:
        run = tmp_path / "run" if kept else None
        found = compose(batch_size="auto").fit(pictures, resume=run)
        assert found.record["resolved"]["batch_size"] == 4
        assert_same(found, compose(batch_size=4).fit(pictures))
        if run:
            found.save(run)
            record = json.loads((run / "run.json").read_text())["composition"]["strategy"]
            assert record["options"]["batch_size"] == "auto"
            assert record["resolved"]["batch_size"] == 4

    def test_auto_says_nothing_twice(self, compose, pictures, small: list[int], monkeypatch) -> None:
        from zoo_plugins.strategies.from_scratch.strategy import FromScratch

        prepare = FromScratch.prepare

        def saying(self, model, context):
            context.notes.append("prepared")
            return prepare(self, model, context)

        monkeypatch.setattr(FromScratch, "prepare", saying)
        assert compose(batch_size="auto").fit(pictures).notes.count("prepared") == 1
        assert max(small) > min(small), "it was prepared more than once"

    def test_auto_where_there_is_room(self, compose, pictures) -> None:
        assert_same(compose(batch_size="auto").fit(pictures), compose(batch_size=32).fit(pictures))

    def test_auto_is_resumed(self, compose, pictures, small: list[int], tmp_path: Path) -> None:
        whole = compose(batch_size="auto").fit(pictures)
        _break_off(compose(batch_size="auto"), pictures, tmp_path / "run", 15)
        small.clear()
        assert_same(whole, compose(batch_size="auto").fit(pictures, resume=tmp_path / "run"))
        assert max(small) == 4

    def test_accumulating_fits_too(self, compose, pictures, small: list[int]) -> None:
        compose(accumulate=3).fit(pictures)
        assert max(small) == 4

    def test_nothing_fits(self, compose, pictures, monkeypatch: pytest.MonkeyPatch) -> None:
        from zoo_plugins.strategies.from_scratch.strategy import FromScratch

        def never(*_: Any) -> None:
            raise MemoryError

        monkeypatch.setattr(FromScratch, "loss", never)
        for size in (12, "auto"):
            with pytest.raises(OutOfMemoryError) as caught:
                compose(batch_size=size).fit(pictures)
            assert caught.value.fits is None
            assert "smallest" in caught.value.hint

    def test_what_it_looks_like(self) -> None:
        assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"))
        assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"))
        assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))


def _break_off(learner: Learner, data: Any, run: Path, step: int) -> None:
    def stop(what: str, done: int, total: int) -> None:
        if what == "train" and done == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learner.fit(data, resume=run, progress=stop)


def _start_of(learner: Learner, data: Any) -> Tensor:
    """The head's weights before the first step."""
    found: list[Tensor] = []

    def stop(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    from zoo.adapt import training

    begin = training._Loop.begin

    def watched(self: Any, on_resume: Any) -> None:
        found.append(self.model.head.weight.detach().clone())
        begin(self, on_resume)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training._Loop, "begin", watched)
        with pytest.raises(KeyboardInterrupt):
            learner.fit(data, progress=stop)
    return found[0]
