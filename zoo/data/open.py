"""`open_data`: whatever a person has, as `Data`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from zoo.data import arrays, builtin
from zoo.data.assemble import Known, Rows, assemble, retarget
from zoo.data.cells import TextSamples
from zoo.data.dataset import KINDS, TRAIN, Data, Split, expect_kind
from zoo.data.files import FileSamples, is_sample, sample_files, without_notes
from zoo.data.folder import read_folder, read_loose
from zoo.data.frames import frame_columns, from_frame, is_frame
from zoo.data.manifest import rows_of
from zoo.data.records import Records, column_names, from_rows, is_records, read_records
from zoo.data.task import CLASSES, Task
from zoo.errors import DataError, NotFoundError, UsageError
from zoo.settings import expanded

#: What to do about files that others read.
_INSTEAD: Final = {
    ".json": "Write one object a line, in a .jsonl file.",
    ".xlsx": "Save it as CSV in UTF-8.",
    ".xls": "Save it as CSV in UTF-8.",
    ".ods": "Save it as CSV in UTF-8.",
    ".gz": "Unpack it first.",
    ".zip": "Unpack it first.",
    ".feather": "Write it as Parquet.",
    ".arrow": "Write it as Parquet.",
}
#: A longer string is a text.
_LONGEST_PATH: Final = 1024


def open_data(
    source: Any,
    *,
    kind: str | None = None,
    label: str | None = None,
    task_classes: Task | tuple[str, ...] | list[str] | None = None,
    skip_bad: bool = False,
    labelled: bool = True,
    group_by: str | None = None,
) -> Data:
    """Open data from wherever they are. Every file of a sample is read once, so that unreadable ones are known at once.

    Args:
        source: a folder of class folders (optionally under train/ val/ test/), a file of records (.csv, .tsv, .jsonl,
            .parquet; see `zoo.data.manifest`), a NumPy archive (.npz of x and y, see `zoo.data.npz`), a pair `(X, y)`,
            a table in memory (pandas, pyarrow, polars), a map-style data set of pairs (torch's), a Hugging Face
            `Dataset` or `DatasetDict`, the name of a built-in set ("digits", "glyphs", "glyphs:2000"), or something
            already open. Without labels also X alone, a folder of loose files, a path, a picture, a row of a table
            (a dict), or a list of paths, folders, pictures, arrays or rows.
            A built-in name is taken before a folder of that name: write `./digits` for the folder.
        kind: what the samples are to be: "image", "audio", "text", "table", or "tensor" for what is ready for a
            network. With "text", strings in a list are texts, not paths. None = told from the source.
        label: the column of the target, where the source has columns; None = the one named `label`.
        task_classes: the task, or the class names, that the targets must fit, e.g. those of a fitted learner.
        skip_bad: leave unreadable samples out, with a note, instead of refusing the data.
        labelled: False = targets are not needed; a source that has them keeps them, except that folders are read as
            loose files.
        group_by: a column: rows that have the same there (a speaker, a patient) are never divided between what is
            learned from and what is judged by. Something already open keeps the groups that it was opened with.

    Raises:
        NotFoundError: a name that is neither a path nor a built-in set.
        DataError: the data cannot be learned from as they are, or are of another kind.
        UsageError: the source is of no known type.
    """
    known = _known(task_classes)
    for column, use in ((group_by, "to group by"), (label, "of the target")):
        if column is not None and not (has_columns(source) or (column is group_by and _is_grouped(source))):
            raise UsageError(
                f"there is no column {column!r} {use}: only manifests, tables and Hugging Face data sets have columns",
                hint="Write a manifest: path,label,speaker.",
            )
    if isinstance(source, Split):
        source = Data(source.name, source.task, {TRAIN: source.renamed(TRAIN)})
    if isinstance(source, Data):
        for split in source.splits.values():
            expect_kind(split.samples.kind, kind, source.name)
        return retarget(source, known)
    wanted = Wanted(kind, label, labelled, known.task, group_by)
    rows = _read(source, wanted)
    first = rows.samples.path(0) if len(rows.samples) else None
    expect_kind(rows.samples.kind, kind, str(rows.path or first or rows.name))
    return assemble(rows, known, skip_bad=skip_bad, labelled=labelled)


@dataclass(frozen=True)
class Wanted:
    """What is asked of a source; see `open_data`."""

    kind: str | None
    label: str | None
    labelled: bool
    task: Task | None
    group_by: str | None

    def rows(self, records: Records, **more: Any) -> Rows:
        """Rows of records."""
        return rows_of(
            records,
            kind=self.kind,
            label=self.label,
            labelled=self.labelled,
            task=self.task,
            group_by=self.group_by,
            **more,
        )


def _read(source: Any, wanted: Wanted) -> Rows:
    if isinstance(source, str):
        if builtin.is_builtin(source):
            return builtin.read_builtin(source)
        if wanted.kind == "text" and not wanted.labelled and not _may_be_path(source):
            return Rows("texts", TextSamples([source]))
    if isinstance(source, (str, os.PathLike)):
        return _read_path(_existing(source), wanted)
    return _read_object(source, wanted)


def has_columns(source: Any) -> bool:
    """Whether the source is one of columns; of a name that nothing bears, nobody knows."""
    source = _alone(source)
    if isinstance(source, (str, os.PathLike)):
        path = expanded(source)
        return is_records(path) or not (path.exists() or builtin.is_builtin(str(source)))
    if isinstance(source, tuple) and len(source) == 2 and not _are_rows(source):
        source = source[0]
    return _is_hf(source) or is_frame(source) or _is_row(source) or _are_rows(source)


def label_in(source: Any, label: str | None) -> str | None:
    """The column of the target that other data had, for a source that has columns too; else None."""
    return label if label is not None and has_columns(source) else None


def has_column(source: Any, name: str) -> bool:
    """Whether `open_data(source, group_by=name)` finds its column."""
    if not has_columns(source):
        return _is_grouped(source)
    source = _alone(source)
    if isinstance(source, (str, os.PathLike)):
        file = expanded(source)
        found = column_names(file) if file.is_file() else []
    elif _is_hf(source):
        from zoo.data.hf import columns

        found = columns(source)
    else:
        table = source[0] if isinstance(source, tuple) and not _are_rows(source) else source
        found = frame_columns(table) if is_frame(table) else list(table if _is_row(table) else table[0])
    return name.strip().lower() in [str(one).strip().lower() for one in found]


def _alone(source: Any) -> Any:
    """The one file of records in a list of nothing else; or the source itself."""
    return source[0] if isinstance(source, list) and len(source) == 1 and _record_files(source) else source


def _is_grouped(source: Any) -> bool:
    """Whether it was opened by groups already."""
    splits = source.splits.values() if isinstance(source, Data) else [source]
    return all(isinstance(split, Split) and split.groups is not None for split in splits)


def _is_hf(source: Any) -> bool:
    return type(source).__module__.partition(".")[0] == "datasets"


def _is_row(item: Any) -> bool:
    return isinstance(item, Mapping) and not _is_hf(item) and not any(map(arrays.is_array, item.values()))


def _are_rows(items: Any) -> bool:
    return isinstance(items, (list, tuple)) and bool(items) and all(_is_row(item) for item in items)


def _may_be_path(text: str) -> bool:
    """Whether a string is rather the name of a file, there or not, than a text."""
    if len(text) > _LONGEST_PATH or "\n" in text:
        return False
    if is_records(Path(text)) or is_sample(text) or Path(text).suffix.lower() == ".npz":
        return True
    try:
        return expanded(text).exists()
    except (OSError, ValueError, UsageError):  # too long a name, a zero byte, nobody's home
        return False


def _known(given: Task | tuple[str, ...] | list[str] | None) -> Known:
    if given is None or isinstance(given, Task):
        return Known(task=given)
    return Known(task=Task(CLASSES, tuple(given)))


def _existing(source: str | os.PathLike[str]) -> Path:
    path = expanded(source)
    if path.exists():
        return path.absolute()
    from zoo.catalog.near import nearest

    near = nearest(str(source), list(builtin.NAMES)) + _near(path)
    raise NotFoundError(
        f"no data at {str(source)!r}: neither a path nor a built-in set",
        why=f"Built in: {', '.join(builtin.NAMES)}.",
        hint=f"Did you mean {', '.join(near[:3])}?" if near else "Give a folder of class folders or a CSV manifest.",
    )


def _near(path: Path) -> list[str]:
    """What lies in the same folder under a like name."""
    from zoo.catalog.near import nearest

    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    return [str(path.parent / name) for name in nearest(path.name, siblings)]


def _read_path(path: Path, wanted: Wanted) -> Rows:
    if path.is_dir():
        return read_folder(path, wanted.kind) if wanted.labelled else read_loose(path, wanted.kind)
    if is_records(path):
        return wanted.rows(read_records(path))
    if path.suffix.lower() == ".npz":
        from zoo.data.npz import read_npz

        return read_npz(path, labelled=wanted.labelled)
    if not wanted.labelled:
        return Rows(path.name, _files([path], wanted.kind), path=path, source=str(path))
    raise DataError(
        f"{path} is neither a folder nor a CSV manifest nor a NumPy archive",
        hint=_INSTEAD.get(path.suffix.lower())
        or "Give a folder of class folders, a table (.csv, .tsv, .jsonl, .parquet) whose columns are path,label"
        "[,split], or text,label, or what is known of each row; or an .npz of x and y.",
    )


def _read_object(source: Any, wanted: Wanted) -> Rows:
    if _is_hf(source):
        from zoo.data.hf import LABELS, read_hf

        records, splits = read_hf(source)
        return wanted.rows(records, splits=splits, labels=LABELS)
    if isinstance(source, tuple) and len(source) == 2 and _is_pair(source, wanted.labelled):
        return _read_pair(source[0], _labels(source[1]), wanted)
    if is_frame(source):
        return wanted.rows(from_frame(source))
    if _is_row(source):
        source = [source]
    if _are_rows(source):
        return wanted.rows(from_rows(source))
    texts = wanted.kind == "text" and isinstance(source, list) and all(isinstance(item, str) for item in source)
    if isinstance(source, list) and not texts and (files := _record_files(source)):
        if len(source) > 1:
            raise DataError(
                f"{files[0]} is a table, and was given among other things", hint="Give one table at a time, alone."
            )
        return _read_path(_existing(files[0]), wanted)
    if arrays.is_array(source) or isinstance(source, (list, tuple)) or hasattr(source, "getexif"):
        if wanted.labelled:
            raise DataError("these samples have no labels", hint="Give a pair (X, y).")
        return Rows("samples", _samples(source, wanted.kind))
    if hasattr(source, "__getitem__") and hasattr(source, "__len__") and not isinstance(source, Mapping):
        return _read_map(source, wanted)
    hint = "Give a folder, a CSV manifest, (X, y), a map-style data set, a Hugging Face data set, or a built-in name."
    if hasattr(source, "__iter__"):
        hint += " A data set that can only be iterated must be turned into a list of samples first."
    raise UsageError(f"a {type(source).__name__} is no data source", hint=hint)


def _read_pair(given: Any, labels: Any, wanted: Wanted) -> Rows:
    if wanted.kind != "tensor":
        if is_frame(given):
            return wanted.rows(from_frame(given), targets=labels)
        if _are_rows(given):
            return wanted.rows(from_rows(given), targets=labels)
    return Rows("arrays", _samples(given, wanted.kind), labels)


def _read_map(source: Any, wanted: Wanted) -> Rows:
    name = type(source).__name__
    if len(source) == 0:
        raise DataError(f"the {name} is empty: it has no samples")
    first = source[0]
    has_labels = isinstance(first, (tuple, list)) and len(first) == 2
    labels = arrays.labels_of(source) if wanted.labelled or has_labels else None
    sample = first[0] if has_labels else first
    if isinstance(sample, str) or _is_row(sample):
        items = [source[row][0] if has_labels else source[row] for row in range(len(source))]
        found = _read_pair(items, labels, replace(wanted, kind="table" if _is_row(sample) else "text"))
        return replace(found, name=name, classes=arrays.classes_of(source))
    arrays.refuse_random(source, f"the {name}")
    return Rows(name, arrays.MapSamples(source), labels, classes=arrays.classes_of(source))


def _is_pair(source: tuple[Any, Any], labelled: bool) -> bool:
    if labelled:
        return True
    second = source[1]
    return not (arrays.is_array(second) and second.ndim > 1) and not isinstance(second, (str, os.PathLike, Mapping))


def _record_files(items: list[Any]) -> list[Path]:
    return [Path(item) for item in items if isinstance(item, (str, os.PathLike)) and is_records(Path(item))]


def _labels(labels: Any) -> Any:
    if hasattr(labels, "tolist") and not arrays.is_array(labels):
        return labels.to_numpy() if hasattr(labels, "to_numpy") else labels.tolist()
    if hasattr(labels, "to_pylist"):  # pyarrow
        return labels.to_pylist()
    return labels if arrays.is_array(labels) else list(labels)


def _samples(given: Any, kind: str | None) -> Any:
    """Samples of X: an array, several arrays that belong together (a tuple), or a list of single samples."""
    if kind == "text" and not isinstance(given, list) and (texts := _texts(given)) is not None:
        given = texts
    if arrays.is_array(given):
        return arrays.ArraySamples(arrays.check_array(given))
    if hasattr(given, "to_numpy"):
        return arrays.ArraySamples(arrays.check_array(given.to_numpy()))
    if hasattr(given, "getexif"):
        return arrays.ListSamples([given])
    if isinstance(given, tuple) and given and all(arrays.is_array(part) for part in given):
        parts = tuple(arrays.check_array(part, f"part {i} of X") for i, part in enumerate(given))
        if len({len(part) for part in parts}) > 1:
            raise DataError(f"the parts of X have different lengths: {', '.join(str(len(part)) for part in parts)}")
        return arrays.ArraySamples(parts)
    items = list(given)
    if kind == "text" and items and all(isinstance(item, str) for item in items):
        return TextSamples(items)
    if items and all(isinstance(item, (str, os.PathLike)) for item in items):
        return _files(_expand(items, kind), kind)
    if any(isinstance(item, (str, os.PathLike)) for item in items):
        raise DataError("paths and samples in memory are mixed in one list", hint="Give one kind at a time.")
    return arrays.ListSamples(items)


def _files(paths: list[Path], kind: str | None) -> FileSamples:
    """Files as samples; where texts or rows are eaten, a file of no known ending is none of them."""
    odd = next((path for path in paths if not is_sample(path.name)), None)
    if odd is not None and kind in ("text", "table"):
        raise DataError(
            f"{odd} is no file of {KINDS[kind]}",
            hint=_INSTEAD.get(odd.suffix.lower())
            or ("Texts end in .txt; or give" if kind == "text" else "Give") + " a .csv, .tsv, .jsonl or .parquet.",
        )
    return FileSamples(paths, str(paths[0]) if len(paths) == 1 else "the data")


def _texts(given: Any) -> list[str] | None:
    """The texts in an array or a series of strings; None where it holds anything else."""
    if isinstance(given, tuple):
        items = list(given)
    else:
        read = getattr(given, "to_pylist", None) or getattr(given, "tolist", None)
        items = read() if read else []
    return items if isinstance(items, list) and items and all(isinstance(item, str) for item in items) else None


def _expand(items: list[Any], kind: str | None) -> list[Path]:
    paths: list[Path] = []
    for item in items:
        path = expanded(item).absolute()
        if path.is_dir():
            inside = without_notes(list(sample_files(path)), kind)
            if not inside:
                raise DataError(
                    f"no samples in {path}",
                    hint="Pictures end in .jpg, .png ..., recordings in .wav, .flac ..., texts in .txt.",
                )
            paths += inside
        elif path.exists():
            paths.append(path)
        else:
            near = _near(expanded(item))
            hint = f"Did you mean {', '.join(near)}?" if near else "Give the path of a sample, or of a folder of them."
            raise NotFoundError(f"no sample at {path}", hint=hint)
    return paths
