"""Checkpoints on disk: whole or not at all, the newest good one wins, and bad ones are said."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from zoo.adapt import checkpoint
from zoo.adapt.checkpoint import STATE, SUMS, TENSORS, Checkpoints, read_checkpoint
from zoo.errors import DiskError, IntegrityError


@pytest.fixture
def made(tmp_path: Path) -> Checkpoints:
    """Three were written, of which two stay: steps 20 and 30."""
    found = Checkpoints(tmp_path / "checkpoints", key="one")
    for step in (10, 20, 30):
        found.write(step, {"epoch": step // 10}, {"model.w": torch.full((2,), float(step))})
    return found


def names(found: Checkpoints) -> list[str]:
    return sorted(os.listdir(found.folder))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a bit of the tensors": lambda place: flip(place / TENSORS),
    "a bit of the facts": lambda place: flip(place / STATE),
    "a bit of the sums": lambda place: flip(place / SUMS),
    "half of the tensors": lambda place: os.truncate(place / TENSORS, 20),
    "no facts": lambda place: (place / STATE).unlink(),
    "no tensors": lambda place: (place / TENSORS).unlink(),
    "no sums": lambda place: (place / SUMS).unlink(),
    "empty sums": lambda place: (place / SUMS).write_text(""),
}


def test_two_stay_and_the_newest_is_read(made: Checkpoints) -> None:
    assert names(made) == ["step-00000020", "step-00000030"]
    found = made.newest()
    assert found is not None
    assert found.facts == {"schema": 1, "key": "one", "step": 30, "epoch": 3}
    assert found.tensors["model.w"].tolist() == [30, 30]
    assert made.skipped == []


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_one_is_skipped_and_said(made: Checkpoints, damage: str) -> None:
    DAMAGE[damage](made.folder / "step-00000030")
    with pytest.raises(IntegrityError):
        read_checkpoint(made.folder / "step-00000030")
    found = made.newest()
    assert found is not None
    assert found.facts["step"] == 20
    (said,) = made.skipped
    assert "step-00000030" in said
    assert "damaged" in said
    made.write(25, {}, {"model.w": torch.zeros(2)})
    assert names(made) == ["step-00000020", "step-00000025"], "a bad one never takes the place of a good one"


def test_no_good_one(made: Checkpoints) -> None:
    for place in made.places():
        flip(place / TENSORS)
    assert made.newest() is None
    assert len(made.skipped) == 2


def test_of_another_fit(made: Checkpoints) -> None:
    other = Checkpoints(made.folder, key="two")
    assert other.newest() is None
    assert "another fit" in other.skipped[0]
    other.write(5, {}, {"model.w": torch.zeros(2)})
    assert names(other) == ["step-00000005"]


def test_a_newer_schema(made: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "SCHEMA", 2)
    made.write(40, {}, {"model.w": torch.zeros(2)})
    monkeypatch.undo()
    found = made.newest()
    assert found is not None
    assert found.facts["step"] == 30


def test_the_same_step_again(made: Checkpoints) -> None:
    made.write(30, {"epoch": 7}, {"model.w": torch.zeros(2)})
    found = made.newest()
    assert found is not None
    assert found.facts["epoch"] == 7
    assert names(made) == ["step-00000020", "step-00000030"]


def test_what_a_killed_process_left_is_swept(made: Checkpoints) -> None:
    (made.folder / ".part-x").mkdir()
    (made.folder / ".gone-x" / "step-00000001").mkdir(parents=True)
    assert made.newest() is not None
    made.sweep()
    assert names(made) == ["step-00000020", "step-00000030"]


def test_sums_are_those_of_coreutils(made: Checkpoints) -> None:
    """`sha256sum -c SHA256SUMS` proves one by hand."""
    place = made.folder / "step-00000030"
    lines = (place / SUMS).read_text().splitlines()
    assert [line[64:] for line in lines] == [f"  {STATE}", f"  {TENSORS}"]
    assert json.loads((place / STATE).read_text())["step"] == 30


def test_a_disk_that_refuses(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="no checkpoint can be written"):
        Checkpoints(tmp_path / "file" / "checkpoints", key="one").write(1, {}, {"model.w": torch.zeros(2)})


class TestWhen:
    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        now = [0.0]
        monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
        return now

    def test_each_epoch_and_every_so_often_within(self, tmp_path: Path, clock: list[float]) -> None:
        found = Checkpoints(tmp_path, key="one", every=100)
        assert found.due(epoch_ended=True)
        assert not found.due(epoch_ended=False)
        clock[0] = 100
        assert found.due(epoch_ended=False)
        found.write(1, {}, {"model.w": torch.zeros(2)})
        assert not found.due(epoch_ended=False)

    def test_what_costs_too_much_is_rarer(
        self, tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Writing takes 4 s, an epoch 1 s: beyond 5 s in all, no more than a twentieth of the time."""
        found = Checkpoints(tmp_path, key="one")
        write = checkpoint.write_tensors
        monkeypatch.setattr(
            checkpoint, "write_tensors", lambda *args: (write(*args), clock.__setitem__(0, clock[0] + 4))
        )
        written = 0
        for epoch in range(400):
            clock[0] += 1
            if found.due(epoch_ended=True):
                found.write(epoch, {}, {"model.w": torch.zeros(2)})
                written += 1
        assert 4 * (written - 1) <= 5 + 0.05 * clock[0] < 4 * (written + 1)
