"""Choose where and how a network runs, and say why."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

import torch

from zoo.errors import UsageError

PRECISIONS: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Placement:
    """Where a network runs.

    Attributes:
        device: the chosen device.
        precision: "fp32", "bf16" or "fp16": the type of the matrix work; weights stay fp32.
        reason: why both were chosen, one sentence.
    """

    device: torch.device
    precision: str
    reason: str

    @property
    def dtype(self) -> torch.dtype:
        """The type that autocast computes in."""
        return PRECISIONS[self.precision]

    @property
    def mixed(self) -> bool:
        """Whether autocast is needed."""
        return self.precision != "fp32"

    @property
    def memory_format(self) -> torch.memory_format:
        """Channels last, which convolutions prefer on CPUs and on GPUs with tensor cores."""
        return torch.preserve_format if self.device.type == "mps" else torch.channels_last

    def autocast(self) -> torch.autocast:
        """The context a forward pass runs in."""
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.mixed)


def present() -> list[str]:
    """Names of the accelerators of this machine, best first; "cpu" is always last."""
    names: list[str] = []
    if torch.accelerator.is_available() and (current := torch.accelerator.current_accelerator()) is not None:
        kind = current.type
        count = torch.accelerator.device_count()
        names = [kind] + [f"{kind}:{i}" for i in range(count)] if count > 1 else [kind, f"{kind}:0"]
    return [*names, "cpu"]


def choose(accelerator: str = "auto", precision: str = "auto") -> Placement:
    """Pick the device and the precision.

    Args:
        accelerator: "auto", "cpu", "cuda", "cuda:1", "mps", "xpu" ...
        precision: "auto", "fp32", "bf16" or "fp16".

    Raises:
        UsageError: the accelerator is absent, or the precision is unknown or not possible on it.
    """
    names = present()
    if accelerator == "auto":
        name = names[0]
        why = "the best accelerator present" if name != "cpu" else "no accelerator is present"
    elif accelerator in names:
        name, why = accelerator, "as asked for"
    else:
        raise UsageError(f"no accelerator {accelerator!r} here", hint=f"Present: {', '.join(names)}.")
    device = _of_this_process(torch.device(name))
    chosen, because = _precision(device, precision)
    return Placement(device, chosen, f"runs on {name} ({why}) in {chosen} ({because})")


def _of_this_process(device: torch.device) -> torch.device:
    """Of several processes on a machine with several GPUs, each takes its own where no number was given."""
    local = os.environ.get("LOCAL_RANK", "")
    if device.type != "cuda" or device.index is not None or not local.isdigit():
        return device
    return torch.device("cuda", int(local) % torch.cuda.device_count())


def _precision(device: torch.device, precision: str) -> tuple[str, str]:
    if precision == "auto":
        if _fast_bf16(device):
            return "bf16", "its matrix units have it"
        return "fp32", "bf16 would not be faster here"
    if precision not in PRECISIONS:
        raise UsageError(f"no precision {precision!r}", hint=f"One of: auto, {', '.join(PRECISIONS)}.")
    if precision == "fp16" and device.type == "cpu":
        raise UsageError("fp16 is not for the cpu", hint="Use bf16, fp32 or auto.")
    return precision, "as asked for"


def _fast_bf16(device: torch.device) -> bool:
    if device.type == "cpu":
        flags = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, flag, bool)() for flag in flags)
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "xpu"
