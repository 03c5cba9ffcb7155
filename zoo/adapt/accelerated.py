"""accelerate for one fit at a time, whatever else this process does with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from zoo.models.accelerator import Placement

if TYPE_CHECKING:
    from accelerate import Accelerator


@contextmanager
def accelerated(placement: Placement) -> Iterator[Accelerator]:
    """An `accelerate.Accelerator` for this placement.

    accelerate keeps one state per process and refuses another precision or device in it; two learners may differ, and
    the caller may have an accelerator of their own. So the state is set aside and put back.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState, PartialState

    aside = [AcceleratorState, GradientState]
    device = PartialState._shared_state.get("device")
    if device is not None and device.type != placement.device.type:
        aside.append(PartialState)  # else it stays: it holds the process group
    kept = [(state._shared_state, dict(state._shared_state)) for state in aside]
    try:
        for shared, _ in kept:
            shared.clear()
        yield Accelerator(
            cpu=placement.device.type == "cpu",
            mixed_precision=placement.precision if placement.mixed else "no",
            device_placement=False,
        )
    finally:
        for shared, before in kept:
            shared.clear()
            shared.update(before)
