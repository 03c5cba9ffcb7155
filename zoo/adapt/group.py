"""Several processes that fit one model together: who is who, and what they tell each other. See docs/processes.md."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from zoo.errors import TrainingError, UsageError

#: Set by `zoo fit --processes N`: the file in which its processes find each other. torchrun names an address instead.
MEETING: Final = "ZOO_MEETING"
#: A process that died is noticed by its closed connection; this only ends what nobody will ever answer.
_PATIENCE: Final = datetime.timedelta(days=1)
#: Numbers of one message of gradients.
_BUCKET: Final = 1 << 23

#: Words of errors that say that another process has gone.
_ENDED: Final = ("connect", "broken pipe", "timed out", "timeout", "socket", "remote process exited")

_apart: ContextVar[bool] = ContextVar("_apart", default=False)


class LostError(TrainingError):
    """Another process of this fit has ended; what ended it is that process's to say."""

    code = "lost"


@dataclass(frozen=True)
class Group:
    """The processes of one fit, as one of them sees them. Every process must ask the same things in the same order.

    Attributes:
        rank: this process, counted from 0, which leads: it alone writes.
        size: processes.
        plain: the `torch.distributed` group for tensors in main memory; None = alone.
        quick: the one for tensors on the accelerator; None = none, they go through main memory.
        notes: what the user should know.
    """

    rank: int = 0
    size: int = 1
    plain: Any = None
    quick: Any = None
    notes: tuple[str, ...] = ()

    @property
    def leads(self) -> bool:
        """Whether this process writes, reports and tells of progress."""
        return self.rank == 0

    @property
    def together(self) -> bool:
        """Whether there are others."""
        return self.size > 1

    def part(self, rows: int, least: int = 1, whole: int = 1) -> slice:
        """The rows that this process takes of so many, in order; parts are as equal as can be.

        Args:
            rows: how many there are.
            least: where a part would have fewer there are fewer parts, and who has none repeats the first.
            whole: so many rows stay together, counted from the first.
        """
        count = self._parts(rows, least, whole)
        return _slice(self.rank if self.rank < count else 0, rows, count, whole)

    def repeats(self, rows: int, least: int = 1, whole: int = 1) -> bool:
        """Whether `part` only repeats what another process has."""
        return self.rank >= self._parts(rows, least, whole)

    def _parts(self, rows: int, least: int, whole: int) -> int:
        return max(1, min(self.size, rows // least, -(-rows // whole)))

    def each(self, value: Any) -> list[Any]:
        """What every process gives, in their order; of what JSON has."""
        if not self.together:
            return [value]
        said = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        with _lost():
            sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
            torch.distributed.all_gather(sizes, torch.tensor([len(said)]), group=self.plain)
            most = max(int(one) for one in sizes)
            found = [torch.zeros(most, dtype=torch.uint8) for _ in range(self.size)]
            torch.distributed.all_gather(found, torch.nn.functional.pad(said, (0, most - len(said))), group=self.plain)
        return [json.loads(one[: int(n)].numpy().tobytes()) for one, n in zip(found, sizes, strict=True)]

    def first(self, value: Any) -> Any:
        """What the leading process gives."""
        return self.each(value if self.leads else None)[0]

    def any(self, value: bool) -> bool:
        """Whether it holds for one of them."""
        if not self.together:
            return value
        found = torch.tensor([int(value)])
        with _lost():
            torch.distributed.all_reduce(found, group=self.plain)
        return bool(found)

    def union(self, mask: np.ndarray) -> np.ndarray:
        """Where a mask (N,) holds for one of them."""
        if not self.together:
            return mask
        found = torch.from_numpy(mask.astype(np.uint8))
        with _lost():
            torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX, group=self.plain)
        return found.numpy().astype(bool)

    def sum(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over the processes, in place; in messages of a few megabytes."""
        if not self.together:
            return
        with _lost(), torch.no_grad():
            for bucket in _buckets(tensors):
                flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
                self._sum(flat)
                for tensor, found in zip(bucket, flat.split([one.numel() for one in bucket]), strict=True):
                    tensor.copy_(found.view(tensor.shape))

    def _sum(self, flat: Tensor) -> None:
        if flat.device.type == "cpu" or self.quick is not None:
            group = self.plain if flat.device.type == "cpu" else self.quick
            torch.distributed.all_reduce(flat, group=group)
            return
        there = flat.cpu()
        torch.distributed.all_reduce(there, group=self.plain)
        flat.copy_(there)

    def gradients(self, parameters: Iterable[Tensor]) -> None:
        """Sum the gradients over the processes. Where none of them has one, there stays none."""
        if not self.together:
            return
        live = [parameter for parameter in parameters if parameter.requires_grad]
        have = self.union(np.asarray([parameter.grad is not None for parameter in live]))
        used = [parameter for parameter, one in zip(live, have.tolist(), strict=True) if one]
        for parameter in used:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.sum(parameter.grad for parameter in used if parameter.grad is not None)

    def align(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the leading one's values, in place."""
        if not self.together:
            return
        with _lost(), torch.no_grad():
            for bucket in _buckets(tensors):
                flat = torch.cat([tensor.reshape(-1) for tensor in bucket]).cpu()
                torch.distributed.broadcast(flat, 0, group=self.plain)
                for tensor, found in zip(bucket, flat.split([one.numel() for one in bucket]), strict=True):
                    if not self.leads:
                        tensor.copy_(found.view(tensor.shape))

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace floating tensors by their mean over the processes, in place; others are left as they are."""
        if not self.together:
            return
        floating = [tensor for tensor in tensors if tensor.is_floating_point()]
        self.sum(floating)
        with torch.no_grad():
            for tensor in floating:
                tensor.div_(self.size)

    def gather(self, rows: Tensor, total: int, whole: int = 1) -> Tensor:
        """(total, ...) on the CPU: the parts that `part(total, whole=whole)` gave to the processes, in order.

        Args:
            rows: this process's; whatever it is where it `repeats`.
            total: rows of all.
            whole: see `part`.
        """
        if not self.together:
            return rows
        shape = self.first(list(rows.shape[1:]))  # the leading process never repeats
        found = torch.empty((total, *shape), dtype=rows.dtype)
        if not self.repeats(total, whole=whole):
            found[self.part(total, whole=whole)] = rows
        count = self._parts(total, 1, whole)
        with _lost():
            for rank in range(count):
                torch.distributed.broadcast(found[_slice(rank, total, count, whole)], rank, group=self.plain)
        return found

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """The leading process first, so that what it fetches, writes or finds wrong is there for the others."""
        if not self.leads:
            self.any(False)
        yield
        if self.leads:
            self.any(False)


#: A process that fits by itself.
ALONE: Final = Group()


@contextmanager
def apart() -> Iterator[None]:
    """Fits in this block are this process's own, whatever others there are."""
    token = _apart.set(True)
    try:
        yield
    finally:
        _apart.reset(token)


def _slice(part: int, rows: int, count: int, whole: int) -> slice:
    blocks = -(-rows // whole)
    cuts = [min(rows, round(i * blocks / count) * whole) for i in (part, part + 1)]
    return slice(*cuts)


def started() -> tuple[int, int]:
    """(rank, size) of this process among those that `zoo fit --processes` or torchrun started; (0, 1) alone."""
    names = ("RANK", "WORLD_SIZE")
    if not all(os.environ.get(name, "").isdigit() for name in names):
        return 0, 1
    rank, size = (int(os.environ[name]) for name in names)
    return rank, size


def join(device: torch.device) -> Group:
    """The group that this process belongs to; `ALONE` where it was not started as one of several.

    The caller's own `torch.distributed` group is used where there is one.

    Raises:
        UsageError: several processes cannot use this device.
    """
    dist = torch.distributed
    if _apart.get() or not dist.is_available():
        return ALONE
    if not dist.is_initialized():
        rank, size = started()
        if size < 2:
            return ALONE
        _meet(device, rank, size)
    if dist.get_world_size() < 2:
        return ALONE
    _expect_usable(device, dist.get_world_size())
    whole, backends = dist.group.WORLD, dist.get_backend_config()
    plain = whole if "cpu:" in backends else dist.new_group(backend="gloo")
    quick = whole if "cuda:nccl" in backends else None
    size, notes = dist.get_world_size(), tuple[str, ...]()
    if device.type == "cuda" and quick is None:
        notes = (f"{size} processes share {torch.cuda.device_count()} GPUs, and sum gradients in main memory",)
    return Group(dist.get_rank(), size, plain, quick, notes)


def _expect_usable(device: torch.device, size: int) -> None:
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"several processes cannot share {device.type}", hint="Use the cpu or cuda, or one process.")
    if device.type == "cuda":
        count, local = torch.cuda.device_count(), int(os.environ.get("LOCAL_RANK", 0))
        if count >= _here(size) and device.index not in (None, local % count):
            raise UsageError(f"{size} processes cannot share {device}", hint="Use --device cuda: each takes its own.")
        if device.index is not None:
            torch.cuda.set_device(device)


def _here(size: int) -> int:
    """Processes on this machine, of so many."""
    return int(os.environ.get("LOCAL_WORLD_SIZE") or size)


def _meet(device: torch.device, rank: int, size: int) -> None:
    """Make the `torch.distributed` group of this process: gloo, and NCCL where each has a GPU of its own."""
    nccl = device.type == "cuda" and torch.cuda.device_count() >= _here(size) and torch.distributed.is_nccl_available()
    if nccl:
        _avoid_what_is_missing()
    if meeting := os.environ.get(MEETING):
        _stay_inside()
        _wait_for_all(meeting, rank, size)
        store: Any = torch.distributed.FileStore(meeting, size)
        more: dict[str, Any] = {"store": store, "rank": rank, "world_size": size}
    else:
        more = {"init_method": "env://"}
    with _lost():
        torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if nccl else "gloo", timeout=_PATIENCE, **more)


def _wait_for_all(meeting: str, rank: int, size: int) -> None:
    """Wait until every process is here. torch's own wait hears no Ctrl-C; later waits end when another process does."""
    Path(f"{meeting}-{rank}").touch()
    while not all(os.path.exists(f"{meeting}-{other}") for other in range(size)):
        time.sleep(0.02)


def _avoid_what_is_missing() -> None:
    """Some consumer GPUs cannot talk to each other directly; NCCL has to be told, and accelerate insists on it."""
    from accelerate.utils import check_cuda_p2p_ib_support

    if not check_cuda_p2p_ib_support():
        os.environ.setdefault("NCCL_P2P_DISABLE", "1")
        os.environ.setdefault("NCCL_IB_DISABLE", "1")


def _stay_inside() -> None:
    """What processes of one machine tell each other goes over its loopback, whatever its name and firewall are."""
    import socket

    with contextlib.suppress(OSError, AttributeError):
        names = {name for _, name in socket.if_nameindex()}
        loop = next(name for name in ("lo", "lo0") if name in names) if names & {"lo", "lo0"} else None
        if loop and sys.platform != "win32":
            os.environ.setdefault("GLOO_SOCKET_IFNAME", loop)
            os.environ.setdefault("NCCL_SOCKET_IFNAME", loop)


@contextmanager
def _lost() -> Iterator[None]:
    """What torch raises where another process has gone."""
    try:
        yield
    except RuntimeError as error:
        if not _is_lost(error):
            raise
        raise LostError("another process of this fit has ended", why=str(error).partition("\n")[0][:200]) from error


def _is_lost(error: RuntimeError) -> bool:
    """gloo has no type of its own for a connection that ended, only words; nor has NCCL."""
    dist = torch.distributed
    return isinstance(error, (dist.DistNetworkError, dist.DistStoreError)) or any(
        word in str(error).lower() for word in _ENDED
    )


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """In the given order, by type and device, up to a few megabytes each."""
    open_: dict[Any, list[Tensor]] = {}
    for tensor in tensors:
        key = (tensor.dtype, tensor.device)
        bucket = open_.setdefault(key, [])
        if bucket and sum(one.numel() for one in bucket) + tensor.numel() > _BUCKET:
            yield bucket
            bucket = open_[key] = []
        bucket.append(tensor)
    yield from open_.values()
