"""`open_data`: whatever a person has, as `Data`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.data import arrays, builtin
from zoo.data.assemble import Known, Rows, assemble, retarget
from zoo.data.dataset import TRAIN, Data, Split
from zoo.data.files import FileSamples, sample_files
from zoo.data.folder import read_folder, read_loose
from zoo.data.task import CLASSES, Task
from zoo.errors import DataError, NotFoundError, UsageError
from zoo.settings import expanded


def open_data(
    source: Any,
    *,
    task_classes: Task | tuple[str, ...] | list[str] | None = None,
    skip_bad: bool = False,
    labelled: bool = True,
    group_by: str | None = None,
) -> Data:
    """Open data from wherever they are. Every image file is read once, so that unreadable ones are known at once.

    Args:
        source: a folder of class folders (optionally under train/ val/ test/), a CSV manifest (path,label[,split]),
            a NumPy archive (.npz of x and y, see `zoo.data.npz`), a pair `(X, y)`, a map-style data set of pairs
            (torch's), a Hugging Face `Dataset` or `DatasetDict`, the name of a built-in set ("digits", "glyphs",
            "glyphs:2000"), or something already open. Without labels also X alone, a folder of loose images, a path,
            a picture, or a list of paths, folders, pictures, arrays.
            A built-in name is taken before a folder of that name: write `./digits` for the folder.
        task_classes: the task, or the class names, that the targets must fit, e.g. those of a fitted learner.
        skip_bad: leave unreadable images out, with a note, instead of refusing the data.
        labelled: False = targets are not needed; a source that has them keeps them, except that folders are read as
            loose images.
        group_by: a column of the manifest or the Hugging Face data set: rows that have the same there (a speaker, a
            patient) are never divided between what is learned from and what is judged by.

    Raises:
        NotFoundError: a name that is neither a path nor a built-in set.
        DataError: the data cannot be learned from as they are.
        UsageError: the source is of no known type.
    """
    known = _known(task_classes)
    if group_by is not None and not _has_columns(source):
        raise UsageError(
            f"there is no column {group_by!r} to group by: only manifests and Hugging Face data sets have columns",
            hint="Write a manifest: path,label,speaker.",
        )
    if isinstance(source, Data):
        return retarget(source, known)
    if isinstance(source, Split):
        return retarget(Data(source.name, source.task, {TRAIN: source.renamed(TRAIN)}), known)
    if isinstance(source, (str, os.PathLike)):
        if isinstance(source, str) and builtin.is_builtin(source):
            return assemble(builtin.read_builtin(source), known)
        return assemble(_read_path(_existing(source), labelled, known.task, group_by), known, skip_bad=skip_bad)
    return assemble(_read_object(source, labelled, group_by), known, skip_bad=skip_bad)


def has_column(source: Any, name: str) -> bool:
    """Whether `open_data(source, group_by=name)` finds its column."""
    if not _has_columns(source):
        return False
    if isinstance(source, (str, os.PathLike)):
        from zoo.data.manifest import columns

        file = expanded(source)
        return file.is_file() and name.strip().lower() in columns(file)
    from zoo.data.hf import columns as columns_of

    return name in columns_of(source)


def _has_columns(source: Any) -> bool:
    if isinstance(source, (str, os.PathLike)):
        return expanded(source).suffix.lower() == ".csv" or not expanded(source).exists()
    return type(source).__module__.partition(".")[0] == "datasets"


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


def _read_path(path: Path, labelled: bool, task: Task | None, group_by: str | None) -> Rows:
    if path.is_dir():
        return read_folder(path) if labelled else read_loose(path)
    if path.suffix.lower() == ".csv":
        from zoo.data.manifest import read_manifest

        return read_manifest(path, labelled=labelled, task=task, group_by=group_by)
    if path.suffix.lower() == ".npz":
        from zoo.data.npz import read_npz

        return read_npz(path, labelled=labelled)
    if not labelled:
        return Rows(path.name, FileSamples([path], str(path)), path=path, source=str(path))
    raise DataError(
        f"{path} is neither a folder nor a CSV manifest nor a NumPy archive",
        hint="Give a folder of class folders, a .csv with the columns path,label[,split], or an .npz of x and y.",
    )


def _read_object(source: Any, labelled: bool, group_by: str | None) -> Rows:
    if type(source).__module__.partition(".")[0] == "datasets":
        from zoo.data.hf import read_hf

        return read_hf(source, labelled=labelled, group_by=group_by)
    if isinstance(source, tuple) and len(source) == 2 and _is_pair(source, labelled):
        return Rows("arrays", _samples(source[0]), _labels(source[1]))
    if arrays.is_array(source) or isinstance(source, (list, tuple)) or hasattr(source, "getexif"):
        if labelled:
            raise DataError("these samples have no labels", hint="Give a pair (X, y).")
        return Rows("samples", _samples(source))
    if hasattr(source, "__getitem__") and hasattr(source, "__len__") and not isinstance(source, Mapping):
        return _read_map(source, labelled)
    hint = "Give a folder, a CSV manifest, (X, y), a map-style data set, a Hugging Face data set, or a built-in name."
    if hasattr(source, "__iter__"):
        hint += " A data set that can only be iterated must be turned into a list of samples first."
    raise UsageError(f"a {type(source).__name__} is no data source", hint=hint)


def _read_map(source: Any, labelled: bool) -> Rows:
    name = type(source).__name__
    if len(source) == 0:
        raise DataError(f"the {name} is empty: it has no samples")
    arrays.refuse_random(source, f"the {name}")
    first = source[0]
    has_labels = isinstance(first, (tuple, list)) and len(first) == 2
    labels = arrays.labels_of(source) if labelled or has_labels else None
    return Rows(name, arrays.MapSamples(source), labels, classes=arrays.classes_of(source))


def _is_pair(source: tuple[Any, Any], labelled: bool) -> bool:
    if labelled:
        return True
    second = source[1]
    return not (arrays.is_array(second) and second.ndim > 1) and not isinstance(second, (str, os.PathLike))


def _labels(labels: Any) -> Any:
    if hasattr(labels, "tolist") and not arrays.is_array(labels):
        return labels.to_numpy() if hasattr(labels, "to_numpy") else labels.tolist()
    return labels if arrays.is_array(labels) else list(labels)


def _samples(given: Any) -> Any:
    """Samples of X: an array, several arrays that belong together (a tuple), or a list of single samples."""
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
    if items and all(isinstance(item, (str, os.PathLike)) for item in items):
        return FileSamples(_expand(items))
    if any(isinstance(item, (str, os.PathLike)) for item in items):
        raise DataError("paths and samples in memory are mixed in one list", hint="Give one kind at a time.")
    return arrays.ListSamples(items)


def _expand(items: list[Any]) -> list[Path]:
    paths: list[Path] = []
    for item in items:
        path = expanded(item).absolute()
        if path.is_dir():
            inside = list(sample_files(path))
            if not inside:
                raise DataError(
                    f"no samples in {path}", hint="Pictures end in .jpg, .png ..., recordings in .wav, .flac ..."
                )
            paths += inside
        elif path.exists():
            paths.append(path)
        else:
            near = _near(expanded(item))
            hint = f"Did you mean {', '.join(near)}?" if near else "Give the path of a sample, or of a folder of them."
            raise NotFoundError(f"no sample at {path}", hint=hint)
    return paths
