"""A safetensors header, checked in plain Python before anything opens the file.

On disk::

    8 bytes    N, little-endian: the length of the header
    N bytes    JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ..., "__metadata__": {...}}
    the rest   the tensors, row-major, little-endian, with neither gaps nor overlaps

The check costs memory in proportion to the header and never touches the tensors.
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn

from zoo.errors import DiskError, IntegrityError, NotFoundError

#: Bits of one element.
DTYPES: Final[Mapping[str, int]] = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
#: The longest header read. The largest of the image models has 0.3 MB; the worst of this length costs 100 MB to parse.
MAX_HEADER: Final = 4 * 2**20
#: Tensors in one file. The deepest networks have some thousands.
MAX_TENSORS: Final = 50_000
MAX_RANK: Final = 16
MAX_NAME: Final = 512
METADATA: Final = "__metadata__"

_PREFIX: Final = 8
_KEYS: Final = {"dtype", "shape", "data_offsets"}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor: its type, its shape, and where its bytes are, counted from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def kind(self) -> str:
        """ "float", "int", "bool" or "complex"."""
        if self.dtype == "BOOL":
            return "bool"
        return {"F": "float", "B": "float", "C": "complex"}.get(self.dtype[0], "int")


@dataclass(frozen=True, slots=True)
class Header:
    """What a safetensors file says about itself, proved to be consistent.

    Attributes:
        tensors: name -> where and what, in the order of the bytes.
        metadata: free text by key.
        size: bytes of the whole file.
    """

    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]
    size: int

    @property
    def parameters(self) -> int:
        """Elements of all tensors."""
        return sum(math.prod(info.shape) for info in self.tensors.values())


def read_header(path: str | os.PathLike[str]) -> Header:
    """Read and check the header of the safetensors file at `path`.

    Checked: the sizes; JSON in UTF-8 without duplicate keys; at most `MAX_TENSORS` tensors of at most `MAX_RANK`
    dimensions; printable names of at most `MAX_NAME` characters, none like a path; known types; bytes that equal
    shape x type and cover the file without gap or overlap.

    Raises:
        IntegrityError: the file is not a sound safetensors file; the reason is in `why`.
        NotFoundError: there is no such file.
        DiskError: it cannot be read.
    """
    path = Path(path)
    try:
        # A named pipe would block `open` for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            raise IntegrityError(f"{path} is not a regular file", hint="Name a .safetensors file.")
        with path.open("rb") as file:
            return _Checker(path).read(file)
    except FileNotFoundError as error:
        raise NotFoundError(f"no file {path}", hint="Check the path.") from error
    except OSError as error:
        if error.errno == errno.ENOTDIR:
            raise NotFoundError(f"no file {path}", hint="Check the path.") from error
        raise DiskError(f"{path} cannot be read", why=str(error)) from error


class _Checker:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.objects = 0

    def refuse(self, why: str) -> NoReturn:
        raise IntegrityError(
            f"{self.path} is not a sound safetensors file",
            why=why,
            hint="Fetch the file again; a pickle (.pth, .bin) goes through `zoo convert` first.",
        )

    def read(self, file: BinaryIO) -> Header:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            self.refuse("the file is empty")
        prefix = file.read(_PREFIX)
        if len(prefix) < _PREFIX:
            self.refuse(f"the file has {size} bytes, less than the {_PREFIX} that hold the header's length")
        length = int.from_bytes(prefix, "little")
        if length > MAX_HEADER:
            self.refuse(f"the header is said to have {length} bytes; at most {MAX_HEADER} are read")
        if _PREFIX + length > size:
            self.refuse(f"the header is said to have {length} bytes, the file has {size}: it is truncated")
        raw = file.read(length)
        if len(raw) < length:
            self.refuse("the file became shorter while it was read")
        tensors, metadata = self.entries(self.parse(raw))
        self.cover(tensors, size - _PREFIX - length)
        return Header(tensors, metadata, size)

    def parse(self, raw: bytes) -> dict[str, Any]:
        if not raw.startswith(b"{"):
            self.refuse("the header does not start with '{'")
        # Two lists a tensor; each costs twenty times its two brackets.
        if raw.count(b"[") > 3 * MAX_TENSORS:
            self.refuse(f"the header lists more than {MAX_TENSORS} tensors")
        try:
            found = json.loads(raw.decode("utf-8"), object_pairs_hook=self.unique, parse_constant=self.constant)
        except UnicodeDecodeError as error:
            self.refuse(f"the header is not UTF-8 ({error.reason} at byte {error.start})")
        except RecursionError:
            self.refuse("the header is nested too deeply")
        except ValueError as error:
            self.refuse(f"the header is not JSON ({error})")
        return found

    def unique(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # Counted while parsing: a header of empty objects would otherwise cost a hundred times its length.
        self.objects += 1
        if self.objects > MAX_TENSORS + 2:
            self.refuse(f"the header lists more than {MAX_TENSORS} tensors")
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            self.refuse(f"the header has the key {_short(twice)} twice")
        return found

    def constant(self, word: str) -> NoReturn:
        self.refuse(f"the header contains {word}")

    def entries(self, found: dict[str, Any]) -> tuple[dict[str, TensorInfo], dict[str, str]]:
        metadata = found.pop(METADATA, {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            self.refuse(f"{METADATA} must map names to text")
        if len(found) > MAX_TENSORS:
            self.refuse(f"the header lists more than {MAX_TENSORS} tensors")
        tensors = {name: self.tensor(name, entry) for name, entry in found.items()}
        return dict(sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end))), metadata

    def tensor(self, name: str, entry: Any) -> TensorInfo:
        who = f"tensor {_short(name)}"
        if not name or len(name) > MAX_NAME:
            self.refuse(f"{who} has a name of {len(name)} characters; 1 to {MAX_NAME} are allowed")
        if not name.isprintable():
            self.refuse(f"{who} has control characters in its name")
        if name.startswith("/") or "\\" in name or ".." in name.split("/"):
            self.refuse(f"{who} is named like a path")
        if not isinstance(entry, dict) or set(entry) != _KEYS:
            self.refuse(f"{who} must have dtype, shape and data_offsets, and nothing else")
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or dtype not in DTYPES:
            self.refuse(f"{who} has the unknown type {_short(dtype)}")
        if not isinstance(shape, list) or not all(type(n) is int and 0 <= n < 2**63 for n in shape):
            self.refuse(f"{who} has the impossible shape {_short(shape)}")
        if len(shape) > MAX_RANK:
            self.refuse(f"{who} has {len(shape)} dimensions; at most {MAX_RANK} are read")
        if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(n) is int and n >= 0 for n in offsets):
            self.refuse(f"{who} has the impossible offsets {_short(offsets)}")
        start, end = offsets
        needed = math.prod(shape) * DTYPES[dtype] // 8
        if end - start != needed:
            self.refuse(f"{who}, {dtype} {_short(shape)}, needs {needed} bytes and claims {end - start}")
        return TensorInfo(dtype, tuple(shape), start, end)

    def cover(self, tensors: dict[str, TensorInfo], data: int) -> None:
        """The tensors, in order, must touch each other and fill the file."""
        position = 0
        for name, info in tensors.items():
            if info.start != position:
                what = "overlaps the one before it" if info.start < position else "leaves a gap before it"
                self.refuse(f"tensor {_short(name)} {what} (byte {info.start}, not {position})")
            position = info.end
        if position != data:
            what = "it is truncated" if data < position else "what follows belongs to no tensor"
            self.refuse(f"the tensors end at byte {position} of {data}: {what}")


def _short(value: Any) -> str:
    """`value` in ASCII and at most 80 characters: it may be hostile, and it goes to a terminal."""
    if isinstance(value, list):
        value = value[:8]
    if isinstance(value, str):
        value = value[:200]
    try:
        text = ascii(value)
    except ValueError:
        text = "a number beyond all sizes"
    return text if len(text) <= 80 else text[:77] + "..."
