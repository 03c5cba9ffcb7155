"""tensorboard: the metrics of every epoch as TensorBoard's event files, where the environment asks for them.

`ZOO_TENSORBOARD=1` writes them into the run's folder (RUN/tensorboard), and those of a fit without a folder below
`runs/tensorboard`; `ZOO_TENSORBOARD=FOLDER` writes them below that folder. It takes the extra `tensorboard`.
"""

from __future__ import annotations

import os
from typing import Any

import zoo

_VARIABLE = "ZOO_TENSORBOARD"


@zoo.hookimpl
def zoo_composed(learner: Any) -> None:
    """Say early that something is missing."""
    if _asked():
        from zoo_plugins.trackers.tensorboard.events import expect_installed

        expect_installed()


@zoo.hookimpl
def zoo_epoch_end(learner: Any, epoch: int, metrics: dict[str, float]) -> None:
    """Write one step."""
    if place := _asked():
        from zoo_plugins.trackers.tensorboard.events import installed, write

        if installed():
            write(learner, epoch, metrics, place)


def _asked() -> str:
    """What the variable says; "" where it asks for nothing."""
    value = os.environ.get(_VARIABLE, "").strip()
    return "" if value.lower() in ("0", "false", "no", "off") else value
