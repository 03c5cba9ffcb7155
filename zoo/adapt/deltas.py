"""What a run saved with `embed=False` keeps of its backbone: only what differs from the source weights.

A tensor that differs is kept whole, as `backbone.NAME`; where the strategy told its change by two small ones, they are
kept instead, as `low_rank.NAME.up` and `low_rank.NAME.down`, and the source's tensor is needed to make it again. A run
that holds every tensor has them too, so that it can be saved small once it was loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from zoo.adapt.lowrank import LowRank
from zoo.errors import IntegrityError

LOW_RANK: Final = "low_rank."
_BACKBONE: Final = "backbone."
_UP, _DOWN = ".up", ".down"


def differences(
    tensors: Mapping[str, Tensor], before: Mapping[str, Tensor], changes: Mapping[str, LowRank]
) -> dict[str, Tensor]:
    """What is kept of `tensors`.

    Args:
        tensors: `backbone.*` and `head.*` of the fitted model; the head is kept whole.
        before: the source's, by the backbone's names.
        changes: of the backbone's tensors, where they are known. One that does not give the very tensor is not used.
    """
    kept: dict[str, Tensor] = {}
    for full, tensor in tensors.items():
        name = full.removeprefix(_BACKBONE)
        given = before.get(name) if full.startswith(_BACKBONE) else None
        if given is not None and torch.equal(given, tensor.cpu()):
            continue
        change = changes.get(name)
        if given is None or change is None or not change.fits(given):
            kept[full] = tensor
        elif torch.equal(change.added_to(given), tensor.cpu()):
            kept |= as_tensors({name: change})
        else:
            kept[full] = tensor
    return kept


def as_tensors(changes: Mapping[str, LowRank]) -> dict[str, Tensor]:
    """Changes as a file holds them; `low_rank_changes` reads them back."""
    up = {f"{LOW_RANK}{name}{_UP}": change.up for name, change in changes.items()}
    return up | {f"{LOW_RANK}{name}{_DOWN}": change.down for name, change in changes.items()}


def low_rank_changes(tensors: Mapping[str, Tensor], where: Path) -> dict[str, LowRank]:
    """The changes among what a file keeps, by the backbone's names.

    Raises:
        IntegrityError: one half of a change is missing, or something else is there.
    """
    left = {name: tensor for name, tensor in tensors.items() if name.startswith(LOW_RANK)}
    found = {}
    for name in [name.removeprefix(LOW_RANK).removesuffix(_UP) for name in left if name.endswith(_UP)]:
        up, down = left.pop(f"{LOW_RANK}{name}{_UP}"), left.pop(f"{LOW_RANK}{name}{_DOWN}", None)
        if down is None:
            raise _damaged(where, f"Of the change of {name} a part is missing.")
        found[name] = LowRank(up, down)
    if left:
        raise _damaged(where, f"{next(iter(left))} is no part of a change.")
    return found


def check_changes(tensors: Mapping[str, Tensor], changes: Mapping[str, LowRank], where: Path) -> None:
    """Find out whether each change is of a tensor that is there, before anything of its size is made.

    Args:
        tensors: of a backbone, by its names.
        changes: `low_rank_changes` of a file.
        where: the file, for messages.

    Raises:
        IntegrityError: one is of none, or of another shape.
    """
    for name, change in changes.items():
        if name not in tensors or not change.fits(tensors[name]):
            raise _damaged(where, f"The change of {name} is of no tensor of the network.")


def completed(
    tensors: Mapping[str, Tensor], before: Mapping[str, Tensor], changes: Mapping[str, LowRank], where: Path
) -> dict[str, Tensor]:
    """Every tensor of the fitted model: those kept, the changed ones made again, and the source's.

    Args:
        tensors: what the file keeps.
        before: the source's, by the backbone's names, without its classifier's.
        changes: `low_rank_changes` of them.
        where: the file, for messages.

    Raises:
        IntegrityError: a change is of no tensor of the source.
    """
    check_changes(before, changes, where)
    made = {f"{_BACKBONE}{name}": tensor for name, tensor in before.items()}
    for name, change in changes.items():
        made[f"{_BACKBONE}{name}"] = change.added_to(before[name])
    return {**made, **{name: tensor for name, tensor in tensors.items() if not name.startswith(LOW_RANK)}}


def _damaged(where: Path, why: str) -> IntegrityError:
    return IntegrityError(f"{where} is damaged", why=why, hint="The file was changed; restore it, or fit again.")
