"""The only door for pickles: `python -I -m zoo.weights.convert IN OUT` in a process of its own.

That process loads with `weights_only=True`, which builds tensors and plain containers and runs no code of the file;
it has limits of time, memory and output, knows none of the caller's secrets, and its output is checked by the caller
like any other file.
"""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from zoo.atomic import PART, locked, publish
from zoo.errors import DiskError, IntegrityError, NotFoundError, ZooError
from zoo.weights.files import disk_errors
from zoo.weights.header import read_header

if TYPE_CHECKING:
    from zoo.weights.store import Store

#: How the process ends when the disk, not the file, is to blame.
_DISK: Final = 6
_NO_ROOM: Final = re.compile(rf"os error ({errno.ENOSPC}|{errno.EDQUOT}|{errno.EROFS}|{errno.EACCES})\)")
#: What torch's unpickler says about a file.
_GLOBAL: Final = re.compile(r"GLOBAL ([\w.]+)")
_FINDING: Final = re.compile(r"(?<=WeightsUnpickler error: )[^\n]+")
#: Keys under which checkpoints nest their tensors.
_NESTED: Final = ("state_dict", "model", "state_dict_ema", "model_ema", "module")
#: Seconds for one file, and for each GB of it.
_TIMEOUT_S: Final = 120
_TIMEOUT_S_PER_GB: Final = 120
#: The largest pickle taken.
MAX_BYTES: Final = 32 * 2**30
#: Tensors may share bytes in a pickle, never in safetensors; this many times the file's size may come out of it.
_GROWTH: Final = 4
_SMALL: Final = 16 * 2**20
#: Memory beyond what Python and torch take, as a multiple of the file's size, and in any case.
_MEMORY: Final = 2 * _GROWTH + 2
_MEMORY_MIN: Final = 2**30
#: What the converter needs of the caller's environment.
_ENVIRONMENT: Final = (
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH",
    "OMP_NUM_THREADS",
)  # fmt: skip


def convert(source: Path, target: Path) -> None:
    """Write the tensors of the pickle `source` to the safetensors file `target`.

    Raises:
        NotFoundError: there is no such file.
        IntegrityError: it holds something else than tensors, is no checkpoint, or would grow beyond all limits;
            `target` is not written.
        DiskError: `target` cannot be written.
    """
    if not source.is_file():
        raise NotFoundError(f"no file {source}", hint="Give the path of a .pth or .bin file.")
    with disk_errors("read", source):
        size = source.stat().st_size
    if size > MAX_BYTES:
        raise IntegrityError(f"{source.name} has {size} bytes; at most {MAX_BYTES} are converted")
    part = target.with_name(f".{target.name}.{os.urandom(8).hex()}{PART}")
    command = [sys.executable, "-I", "-m", "zoo.weights.convert", str(source.absolute()), str(part.absolute())]
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    timeout = _TIMEOUT_S + _TIMEOUT_S_PER_GB * size // 10**9
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env={**environment, "CUDA_VISIBLE_DEVICES": "", "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1"},
            check=False,
        )
        if done.returncode == _DISK:
            raise DiskError(f"cannot write {target}", why=_reason(done), hint="Free some space, or write elsewhere.")
        if done.returncode:
            raise IntegrityError(
                f"{source.name} cannot be converted",
                why=_reason(done),
                hint="Only checkpoints of tensors are converted; code inside a pickle is never run.",
            )
        read_header(part)
        with disk_errors("write", target):
            publish(part, target)
    except subprocess.TimeoutExpired as error:
        raise IntegrityError(f"{source.name} could not be converted within {timeout} s") from error
    finally:
        part.unlink(missing_ok=True)


def convert_into(source: Path, sha256: str, store: Store) -> str:
    """Convert the pickle `source`, whose hash is `sha256`, into the store; the hash of what was made, remembered."""
    from zoo.weights.remembered import Remembered

    made = store.parts / f"convert-{os.urandom(8).hex()}{PART}"
    with disk_errors("write", store.parts):
        store.parts.mkdir(parents=True, exist_ok=True)
        with locked(store.lock_of(made)):
            try:
                convert(source, made)
                converted = store.add(made)
            finally:
                made.unlink(missing_ok=True)
    Remembered(store.settings).note_converted(sha256, converted)
    return converted


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    said = done.stderr.strip().splitlines()
    if done.returncode < 0 or not said:
        return f"the converter was ended by signal {-done.returncode}" if done.returncode < 0 else "it said nothing"
    return "".join(letter if letter.isprintable() else "?" for letter in said[-1][:300])


# -- in the process of its own -----------------------------------------------------------------------------------------


def tensors_of(found: Any, limit: int) -> dict[str, Any]:
    """The tensors of a loaded checkpoint, by name, without a common `module.`.

    Args:
        found: what the unpickler gave.
        limit: bytes that all tensors together may have; a view of one number may claim any shape.
    """
    import torch

    while isinstance(found, dict) and (nested := next((key for key in _NESTED if key in found), None)):
        if not isinstance(found[nested], dict):
            break
        found = found[nested]
    if not isinstance(found, dict) or not found:
        raise ZooError("it is no checkpoint: no mapping of names to tensors")
    for name, value in found.items():
        if not isinstance(name, str):
            raise ZooError(f"the name {name!r:.80} is not text")
        if not isinstance(value, torch.Tensor):
            raise ZooError(f"{name!r} is not a tensor")
        if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
            raise ZooError(f"{name!r} is no plain tensor: {value.layout}, {value.dtype}, {value.device}")
    size = sum(value.numel() * value.element_size() for value in found.values())
    if size > limit:
        raise ZooError(f"its tensors claim {size} bytes, more than {limit}")
    prefix = "module."
    if all(name.startswith(prefix) for name in found):
        found = {name.removeprefix(prefix): value for name, value in found.items()}
    # Copies, because tensors that share memory cannot be saved; contiguous, because files are.
    return {name: value.detach().contiguous().clone() for name, value in found.items()}


def _expect_unpacked(source: str, size: int) -> None:
    """Refuse an archive that unpacks to more than it is: torch stores without compression."""
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
        if unpacked > size + _SMALL:
            raise ZooError(f"it unpacks from {size} to {unpacked} bytes")


def _limit(size: int) -> None:
    """No more memory, output and core dumps than the file can need; where the system knows such limits."""
    try:
        import resource
    except ImportError:  # Windows
        return
    with open("/proc/self/statm") if os.path.exists("/proc/self/statm") else open(os.devnull) as file:
        pages = file.read().split()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    out = _GROWTH * size + _SMALL
    resource.setrlimit(resource.RLIMIT_FSIZE, (out, out))
    if pages:
        memory = int(pages[0]) * resource.getpagesize() + max(_MEMORY * size, _MEMORY_MIN)
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def main(source: str, target: str) -> int:
    """Convert; the last line of stderr says what went wrong."""
    import torch
    from safetensors.torch import save_file

    try:
        size = os.path.getsize(source)
        _limit(size)
        _expect_unpacked(source, size)
        found = torch.load(source, map_location="cpu", weights_only=True)
        save_file(tensors_of(found, _GROWTH * size + _SMALL // 2), target, metadata={"format": "pt"})
        withheld = os.umask(0)
        os.chmod(target, 0o666 & ~withheld)  # safetensors makes files that nobody else may read
        with open(target, "rb+") as file:
            os.fsync(file.fileno())
    except Exception as error:
        print(_said(error), file=sys.stderr)
        return _DISK if _NO_ROOM.search(str(error)) else 1
    return 0


def _said(error: Exception) -> str:
    """One line. Torch's own text advises to open the file unsafely, so only its finding is passed on."""
    text = str(error)
    if (found := _GLOBAL.search(text)) is not None:
        return f"it asks for {found[1]}, which no checkpoint of tensors needs"
    if (found := _FINDING.search(text)) is not None:
        text = found[0]
    elif "weights_only" in text:
        text = "it is no checkpoint that can be opened safely"
    name = "" if isinstance(error, ZooError) else f"{type(error).__name__}: "
    return " ".join(f"{name}{text}".split())[:300]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
