"""Make hostile safetensors files, one for each kind of lie, and try to load every one of them.

    python tools/hostile_files.py [--json] [--keep FOLDER]

Each file is loaded twice, into a network that takes tensors by their names alone and into one that translates names.
A file must be refused with an `IntegrityError`. Counted are other errors, code that was run (imports by a pickle,
processes, connections), and the memory that the worst file took beyond what loading a sound one takes. The process may
not map more than two gigabytes beyond its own.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import pickle
import struct
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save
from torch import Tensor, nn

import zoo
from zoo.errors import IntegrityError
from zoo.models.load import load_network
from zoo.settings import Settings

#: Events that code inside a file would cause.
EXECUTED: Final = {"pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect"}
F32: Final = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
GIGABYTE: Final = 10**9

Lie = bytes | tuple[bytes, int]


class Small(nn.Module):
    """What the files claim to be for."""

    def __init__(self, num_classes: int = 5, in_chans: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chans, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.position = nn.Parameter(torch.zeros(1, 9, 4))
        self.fc = nn.Linear(4, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.bn(self.conv(x)).mean(dim=(2, 3)) + self.position.mean(dim=1))


def stretched(tensors: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Renames, joins and resizes, as translators do."""
    found = {name.removeprefix("old."): tensor for name, tensor in tensors.items()}
    if found["position"].shape[1] != 9:
        found["position"] = nn.functional.interpolate(found["position"].float().mT, size=9, mode="linear").mT
    return found


def spec(translate: Any = None) -> zoo.Backbone:
    return zoo.Backbone("small", "small", Small, 4, 1, (3, 8, 8), head="fc", translate=translate)


def pack(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def state(**changes: Any) -> dict[str, Tensor]:
    """A sound state with some tensors replaced; None removes one."""
    torch.manual_seed(0)
    found: dict[str, Any] = {name: tensor.clone() for name, tensor in Small().state_dict().items()}
    found.update({name.replace("__", "."): tensor for name, tensor in changes.items()})
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def described(entries: dict[str, tuple[str, list[int]]]) -> tuple[bytes, int]:
    """A file that says it has these tensors, as a hole of the right length: (header, length of the file)."""
    sizes = {"F32": 4, "F16": 2, "I64": 8}
    header, position = {}, 0
    for name, (dtype, shape) in entries.items():
        count = sizes[dtype]
        for n in shape:
            count *= n
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, position + count]}
        position += count
    raw = pack(header)
    return raw, len(raw) + position


def shapes(**changes: tuple[str, list[int]]) -> tuple[bytes, int]:
    """The sound file's tensors, some described otherwise."""
    kinds = {torch.float32: "F32", torch.int64: "I64"}
    entries = {name: (kinds[t.dtype], list(t.shape)) for name, t in Small().state_dict().items()}
    return described({**entries, **{name.replace("__", "."): value for name, value in changes.items()}})


class Bomb:
    """A pickle that would leave a mark."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("true",)


def prefixes() -> Iterator[tuple[str, Lie]]:
    """Files that end, or are something else, before there is a header."""
    yield "empty", b""
    for n in (1, 7):
        yield f"{n} bytes", b"\0" * n
    yield "length 0", struct.pack("<Q", 0)
    yield "length 1", struct.pack("<Q", 1) + b"{"
    for n in (2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1):
        yield f"length {n}", struct.pack("<Q", n) + b"{}"
    yield "length beyond the file", pack(b"{}", length=100)
    yield "length short by one", pack({"a": F32}, b"\0" * 8, length=len(json.dumps({"a": F32})) - 1)
    yield "length long by one", pack({"a": F32}, b"\0" * 8, length=len(json.dumps({"a": F32})) + 1)
    yield "big-endian length", struct.pack(">Q", 2) + b"{}"
    yield "68 MB of header", (pack(b"{}", length=68_000_000), 68_000_008)
    yield "a gigabyte of header", (pack(b"{}", length=GIGABYTE), GIGABYTE + 8)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb()))
    yield "a pickle", pickle.dumps(Bomb())
    yield "a zip with a pickle", packed.getvalue()
    yield "a pickle behind a header", pack(b"{}") + pickle.dumps(Bomb())
    yield "gzip", gzip.compress(b"{}" * 50)
    yield "HDF5", b"\x89HDF\r\n\x1a\n" + b"\0" * 64
    yield "GGUF", b"GGUF\3\0\0\0" + b"\0" * 64
    yield "a program", b"\x7fELF\2\1\1" + b"\0" * 64
    yield "a page", b"<!DOCTYPE html><html><body>Please sign in</body></html>"
    yield "a pointer to large storage", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    yield "JSON alone", json.dumps({"a": F32}).encode()
    yield "zeros", b"\0" * 4096
    yield "ones", b"\xff" * 4096


def headers() -> Iterator[tuple[str, Lie]]:
    """Headers that are no sound JSON."""
    for name, raw in {
        "no JSON": b"{nonsense}", "a list": b"[]", "a number": b"7", "a text": b'"a"', "null": b"null",
        "a space first": b" {}", "a mark of byte order": b"\xef\xbb\xbf{}", "UTF-16": '{"a":1}'.encode("utf-16"),
        "not UTF-8": b'{"\xff\xfe": 1}', "cut": b'{"a":{"dtype":"F32"', "a comma too many": b'{"a":1,}',
        "single quotes": b"{'a':1}", "a comment": b"{/**/}", "two objects": b"{}{}", "zeros behind": b"{}\0\0\0\0\0\0",
        "NaN": b'{"a":NaN}', "Infinity": b'{"a":-Infinity}', "5,000 digits": b'{"a":' + b"9" * 5000 + b"}",
        "nested lists": b'{"a":' + b"[" * 100_000, "nested objects": b'{"a":' * 100_000,
        "nested in the metadata": b'{"__metadata__":{"a":' + b"[" * 90_000 + b"]" * 90_000 + b"}}",
        "many lists": b'{"a":[' + b"[]," * 200_000 + b"[]]}",
        "many objects": b'{"a":[' + b"{}," * 200_000 + b"{}]}",
        "many tensors": b"{" + b",".join(b'"%x":{}' % i for i in range(60_000)) + b"}",
        "many numbers": b'{"a":[' + b"0," * 1_500_000 + b"0]}",
        "much metadata": b'{"__metadata__":{' + b",".join(b'"%x":""' % i for i in range(300_000)) + b"}}",
        "a long text": b'{"__metadata__":{"a":"' + b"x" * 4_000_000 + b'"}}',
        "escapes": b'{"' + b"\\u0061" * 600_000 + b'":1}',
    }.items():  # fmt: skip
        yield f"header: {name}", pack(raw)
    entry = json.dumps({**F32, "shape": [1], "data_offsets": [0, 4]})
    yield "a tensor twice", pack(f'{{"a":{entry},"a":{entry}}}'.encode(), b"\0" * 4)
    yield "a tensor twice, once escaped", pack(f'{{"a":{entry},"\\u0061":{entry}}}'.encode(), b"\0" * 4)
    yield "a key twice in a tensor", pack(entry.replace('"shape"', '"dtype":"F32","shape"').join(('{"a":', "}")).encode(), b"\0" * 4)  # fmt: skip  # noqa: E501
    for name, metadata in {
        "a list": [], "a number": 3, "null": None, "a number inside": {"a": 1}, "null inside": {"a": None},
        "an object inside": {"a": {}}, "a list inside": {"a": ["b"]},
    }.items():  # fmt: skip
        yield f"metadata: {name}", pack({"__metadata__": metadata})


def entries() -> Iterator[tuple[str, Lie]]:
    """A tensor that lies about itself."""
    for name, entry in {"a number": 1, "null": None, "a list": [], "a text": "F32", "empty": {}}.items():
        yield f"tensor: {name}", pack({"a": entry}, b"\0" * 8)
    for key in F32:
        yield f"without {key}", pack({"a": {k: v for k, v in F32.items() if k != key}}, b"\0" * 8)
    yield "with more keys", pack({"a": {**F32, "file": "/etc/passwd"}}, b"\0" * 8)
    for dtype in ("F33", "f32", "", " F32", "F4", "F6_E2M3", "F8_E8M0", "C128", "Q4_0", "O", 32, None, ["F32"], {}):
        yield f"dtype {dtype!r}", pack({"a": {**F32, "dtype": dtype}}, b"\0" * 8)
    for shape in (
        [-2], [2.0], [True, 2], ["2"], "2", 2, None, {}, [[2]], [None], [2**63], [2**64], [10**40], [1] * 17 + [2],
        [2**33, 2**33], [2**32, 2**32, 0], [3], [1], [-1, -2],
    ):  # fmt: skip
        yield f"shape {str(shape)[:30]}", pack({"a": {**F32, "shape": shape}}, b"\0" * 8)
    for offsets in (
        [], [0], [0, 8, 8], [0.0, 8.0], [False, 8], ["0", "8"], None, "0,8", {}, [8, 0], [-8, 0], [0, -8], [0, 9],
        [0, 7], [0, 2**63], [2**64, 2**64 + 8], [10**40, 10**40 + 8], [4, 12], [8, 16], [[0], [8]],
    ):  # fmt: skip
        yield f"offsets {str(offsets)[:30]}", pack({"a": {**F32, "data_offsets": offsets}}, b"\0" * 8)
    yield "offset 1e400", pack(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,1e400]}}', b"\0" * 8)
    yield "a gap", pack({"a": F32, "b": {**F32, "data_offsets": [16, 24]}}, b"\0" * 24)
    yield "an overlap", pack({"a": F32, "b": {**F32, "data_offsets": [4, 12]}}, b"\0" * 12)
    yield "the same bytes twice", pack({"a": F32, "b": F32}, b"\0" * 8)
    yield "bytes left over", pack({"a": F32}, b"\0" * 9)
    yield "a byte too few", pack({"a": F32}, b"\0" * 7)
    for name in (
        "", "a" * 513, "a\x1b[2J", "a\nb", "a\0b", "a\u202eb", "\ud800", "/etc/passwd", "../../a", "a/../b", "..\\a",
    ):  # fmt: skip
        yield f"name {ascii(name)[:30]}", pack({name: F32}, b"\0" * 8)


def contents() -> Iterator[tuple[str, Lie]]:
    """Sound files that are not for this network, or not for any."""
    yield "no tensors", pack(b"{}")
    yield "a tensor missing", save(state(fc__bias=None))
    yield "a tensor more", save(state(extra=torch.ones(2)))
    yield "another name", save(state(conv__weight=None, conv__weights=torch.ones(4, 3, 3, 3)))
    yield "turned", save(state(fc__weight=torch.ones(4, 5)))
    yield "flat", save(state(conv__weight=torch.ones(108)))
    yield "a scalar", save(state(conv__bias=torch.ones(())))
    for dtype in (torch.int64, torch.uint8, torch.bool, torch.complex64):
        yield f"weights of {dtype}", save(state(fc__weight=torch.ones(5, 4).to(dtype)))
    yield "a counter of floats", save(state(bn__num_batches_tracked=torch.tensor(1.0)))
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2):
        for value in (float("nan"), float("inf"), -float("inf")):
            weight = torch.zeros(5, 4)
            weight[4, 3] = value
            if not torch.isfinite(weight.to(dtype).float()).all():
                yield f"{value} in {dtype}", save(state(fc__weight=weight.to(dtype)))
    yield "nan in a buffer", save(state(bn__running_var=torch.tensor([1, 1, 1, float("nan")])))
    for classes in ('["a"]', "{", '"abcde"', "[1,2,3,4,5]", "[" * 90_000, '["a","b","c","d","e\\u001b[2J"]'):
        yield f"classes {classes[:20]}", save(state(), metadata={"classes": classes})
    yield "100 GB in one tensor", shapes(fc__weight=("F32", [25 * GIGABYTE, 1]))
    yield "100 GB more than asked for", shapes(extra=("F32", [25 * GIGABYTE]))
    yield "100 GB of channels", shapes(conv__weight=("F32", [4, GIGABYTE, 3, 3]))
    yield "100 GB of classes", shapes(fc__weight=("F32", [5 * GIGABYTE, 4]), fc__bias=("F32", [5 * GIGABYTE]))
    yield "classes without bytes", shapes(fc__weight=("F32", [2**60, 0]), fc__bias=("F32", [0]))
    yield "100 GB of positions", shapes(position=("F16", [1, 12 * GIGABYTE, 4]))
    yield "300 MB of positions", shapes(position=("F16", [1, 37_500_000, 4]))
    yield "sizes that overflow", shapes(extra=("F32", [0, 2**62, 2**62]))


def corpus() -> dict[str, Lie]:
    """Every file: its bytes, or its beginning and the length it pretends to have."""
    return {name: lie for part in (prefixes, headers, entries, contents) for name, lie in part()}


def write(path: Path, lie: Lie) -> None:
    start, length = (lie, len(lie)) if isinstance(lie, bytes) else lie
    with path.open("wb") as file:
        file.write(start)
        file.truncate(length)


def peak() -> int:
    """The most memory this process has held, in bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def bound_memory() -> None:
    """Let no file map more than two gigabytes; where the system can."""
    import resource

    status = Path("/proc/self/statm")
    if status.exists():
        now = int(status.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + 2 * GIGABYTE, -1))


def attempt(path: Path, translate: Any, in_chans: int | None) -> str | None:
    """None where the file was refused as it should be, else what happened."""
    try:
        load_network(spec(translate), None, path, in_chans=in_chans, settings=Settings())
    except IntegrityError as error:
        text = str(error)
        return None if error.exit_code == 5 and "\x1b" not in text and len(text) < 4000 else f"said {text[:200]!r}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"[:300]
    return "was loaded"


def run(folder: Path) -> dict[str, Any]:
    """Load all; the counts."""
    executed: list[str] = []
    sound = folder / "sound.safetensors"
    sound.write_bytes(save({f"old.{name}": tensor for name, tensor in state(position=torch.ones(1, 20, 4)).items()}))
    load_network(spec(stretched), None, sound, settings=Settings())
    before, worst, tries, wrong = peak(), 0, 0, {}
    bound_memory()
    sys.addaudithook(lambda event, _: executed.append(event) if event in EXECUTED else None)
    for number, (name, lie) in enumerate(corpus().items()):
        path = folder / f"{number}.safetensors"
        write(path, lie)
        for translate in (None, stretched):
            for in_chans in (3, None):
                tries += 1
                if (found := attempt(path, translate, in_chans)) is not None:
                    wrong[name] = found
        grown = peak() - before
        if grown > worst + 10e6:
            print(f"{grown / 1e6:.0f} MB after {name}", file=sys.stderr)
        worst = max(worst, grown)
        path.unlink()
    return {
        "files": len(corpus()),
        "tries": tries,
        "wrong": wrong,
        "executed": executed,
        "memory_mb": round(worst / 1e6, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="only write the files, there")
    arguments = parser.parse_args()
    if arguments.keep is not None:
        arguments.keep.mkdir(parents=True, exist_ok=True)
        for number, lie in enumerate(corpus().values()):
            write(arguments.keep / f"{number:03}.safetensors", lie)
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ZOO_HOME"] = folder
        found = run(Path(folder))
    if arguments.json:
        print(json.dumps(found))
        return
    print(f"{found['files']} files, {found['tries']} tries: {len(found['wrong'])} not refused as they should be, "
          f"{len(found['executed'])} times code was run, {found['memory_mb']} MB at the worst")  # fmt: skip
    for name, what in found["wrong"].items():
        print(f"  {name}: {what}")
    sys.exit(1 if found["wrong"] or found["executed"] else 0)


if __name__ == "__main__":
    main()
