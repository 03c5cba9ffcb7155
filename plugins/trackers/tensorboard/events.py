"""One writer of event files for each fit."""

from __future__ import annotations

import importlib.util
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from zoo.errors import UsageError

if TYPE_CHECKING:
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

#: Values of the variable that name no folder.
_YES: Final = ("1", "true", "yes", "on")
#: Metrics that say where the fit stands.
_LEFT_OUT: Final = ("epoch", "epochs")
#: The open files, by learner; they are closed with the last epoch, or when the learner goes.
_open: WeakKeyDictionary[Any, EventFileWriter] = WeakKeyDictionary()


def installed() -> bool:
    """Whether the writer can be imported."""
    return importlib.util.find_spec("tensorboard") is not None


def expect_installed() -> None:
    """Raise `UsageError` where the package is missing."""
    if not installed():
        raise UsageError(
            "ZOO_TENSORBOARD asks for event files, but tensorboard is not installed",
            hint='Install it (pip install "transfer-zoo[tensorboard]"), or unset ZOO_TENSORBOARD.',
        )


def write(learner: Any, epoch: int, metrics: Mapping[str, Any], place: str) -> None:
    """Write the metrics of an epoch, which is the step.

    Args:
        learner: it is being fitted.
        epoch: counted from 0; what an earlier process wrote of it and later ones no longer counts.
        metrics: all numbers among them are written.
        place: what `ZOO_TENSORBOARD` says.
    """
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    now = time.time()
    writer = None if epoch == 0 else _open.get(learner)
    if writer is None:
        writer = _open[learner] = EventFileWriter(str(_folder(learner, place)))
        writer.add_event(Event(wall_time=now, step=epoch, session_log=SessionLog(status=SessionLog.START)))
    numbers = {
        name: float(value)
        for name, value in metrics.items()
        if name not in _LEFT_OUT and isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    values = [Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
    writer.add_event(Event(wall_time=now, step=epoch, summary=Summary(value=values)))
    writer.flush()
    if epoch + 1 == metrics.get("epochs"):
        _open.pop(learner).close()


def _folder(learner: Any, place: str) -> Path:
    run: Path | None = learner.folder
    if place.lower() in _YES and run is not None:
        return run / "tensorboard"
    above = Path("runs", "tensorboard") if place.lower() in _YES else Path(place).expanduser()
    name = run.name if run is not None else ""
    name = name or re.sub(r"[^\w.-]+", "-", f"{learner.source.name}-{learner.strategy_name}")
    if run is not None:
        return above / name
    number = 1
    while (above / f"{name}-{number}").exists():
        number += 1
    return above / f"{name}-{number}"
