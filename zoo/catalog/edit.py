"""Write registry files: one entry at a time, under a lock, whole or not at all, comments kept."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from zoo.atomic import lock_beside, write_atomically, writing
from zoo.catalog.schema import SHARED_KEYS
from zoo.catalog.spec import Preprocessing, Weights
from zoo.errors import DiskError, NotFoundError, UsageError

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

#: Seconds to wait for another process that writes the same file.
LOCK_TIMEOUT: Final = 30
#: In the order in which they are written.
_PLAIN: Final = (
    "sha256", "sha256_prefix", "bytes", "license", "trained_on", "num_classes",
)  # fmt: skip


def add_weights(path: Path, weights: Weights, *, replace: bool = False) -> None:
    """Write an entry into a registry file, which is made if need be.

    A `file:` source inside the file's own folder is written relative to it. Weights that are `default` take that from
    the entry that had it.

    Args:
        path: the registry file.
        weights: the entry.
        replace: whether an entry of that name may be replaced.

    Raises:
        UsageError: the name is taken.
        RegistryError: the file, or the entry, breaks the schema. The file is unchanged.
        DiskError: the file cannot be written.
    """
    with _editing(path) as document:
        entries = document.setdefault("weights", _super_table())
        if weights.name in entries and not replace:
            raise UsageError(
                f"{path} has weights called {weights.name!r} already", hint="Choose another name, or replace it."
            )
        if weights.default:
            for name, entry in entries.items():
                if name != weights.name and entry.get("backbone") == weights.backbone:
                    entry.pop("default", None)
        entries.pop(weights.name, None)
        entries[weights.name] = table_of(weights, path.absolute().parent)


def remove_weights(path: Path, name: str) -> None:
    """Take an entry out of a registry file.

    Raises:
        NotFoundError: no such file, or no such entry in it.
        RegistryError: the file breaks the schema.
        DiskError: the file cannot be written.
    """
    if not path.is_file():
        raise NotFoundError(f"no registry file {path}")
    with _editing(path) as document:
        if name not in document.get("weights", {}):
            raise NotFoundError(f"{path} has no weights called {name!r}")
        del document["weights"][name]


@contextlib.contextmanager
def _editing(path: Path) -> Iterator[TOMLDocument]:
    import tomlkit

    from zoo.catalog import ledger

    try:
        path = path.resolve()  # a link stays a link: the file it leads to is replaced
        with writing(path, timeout=LOCK_TIMEOUT):
            if path.exists():
                ledger.read(path)
                document = tomlkit.parse(path.read_bytes().decode())
            else:
                document = tomlkit.document()
                document.add("schema", 1)
            yield document
            text = tomlkit.dumps(document)
            ledger.parse(text, path)
            write_atomically(path, text.encode())
    except TimeoutError:
        raise DiskError(
            f"another process has held {lock_beside(path)} for {LOCK_TIMEOUT} s", hint="Try again when it has ended."
        ) from None
    except OSError as error:
        raise DiskError(f"cannot write {path}", why=str(error)) from error


def _super_table() -> Any:
    import tomlkit

    return tomlkit.table(is_super_table=True)


def table_of(weights: Weights, folder: Path) -> Any:
    """The entry of `weights` in a registry file of `folder`; a `file:` source in the folder is written relative."""
    import tomlkit

    table = tomlkit.table()
    table["backbone"] = weights.backbone
    if weights.default:
        table["default"] = True
    table["source"] = _relative(weights.source, folder)
    for key in _PLAIN:
        if (value := getattr(weights, key)) is not None:
            table[key] = value
    for key in ("options", "metrics"):
        if value := getattr(weights, key):
            table[key] = _inline(value)
    if weights.preprocessing is not None:
        table["preprocessing"] = _inline(_preprocessing(weights.preprocessing))
    if weights.files:
        files = tomlkit.array()
        for one in weights.files:
            files.append(_inline({**one, "source": _relative(one["source"], folder)}))
        table["files"] = files
    return table


def _preprocessing(spec: Preprocessing) -> dict[str, Any]:
    if spec.kind != "image":
        plain = Preprocessing(kind=spec.kind)
        shared = {key: getattr(spec, key) for key in SHARED_KEYS if getattr(spec, key) != getattr(plain, key)}
        return {"kind": spec.kind, **shared, **spec.extra}
    return {
        "input_size": spec.input_size,
        "mean": spec.mean,
        "std": spec.std,
        "interpolation": spec.interpolation,
        "crop_pct": spec.crop_pct,
        "crop_mode": spec.crop_mode,
        **spec.extra,
    }


def _inline(values: Any) -> Any:
    import tomlkit

    table = tomlkit.inline_table()
    for key, value in values.items():
        table[key] = list(value) if isinstance(value, tuple) else value
    return table


def _relative(source: str, folder: Path) -> str:
    if not source.startswith("file:"):
        return source
    path = Path(source.removeprefix("file:"))
    if path.is_absolute():
        for one, base in ((path, folder), (path.resolve(), folder.resolve())):
            if one.is_relative_to(base):
                return f"file:{one.relative_to(base).as_posix()}"
    return f"file:{path.as_posix()}"
