"""A folder of class folders, optionally under train/ val/ test/; or a folder of loose files."""

from __future__ import annotations

from pathlib import Path

from zoo.data.assemble import SPLIT_NAMES, Rows
from zoo.data.files import FileSamples, sample_files
from zoo.errors import DataError


def read_folder(root: Path) -> Rows:
    """Read class folders: the folder's name is the label; deeper folders belong to their class.

    Raises:
        DataError: no class folders, no image at all, or a class folder without an image.
    """
    folders = _subfolders(root)
    divided = [f for f in folders if f.name.lower() in SPLIT_NAMES and _subfolders(f)]
    notes: tuple[str, ...] = ()
    if divided and (len(divided) == len(folders) or any(SPLIT_NAMES[f.name.lower()] == "train" for f in divided)):
        if others := [f.name for f in folders if f not in divided]:
            notes = (f"folders beside the splits left out: {', '.join(others[:10])}",)
        _refuse_twins(root, divided)
        found = [
            (path, label, SPLIT_NAMES[part.name.lower()]) for part in divided for path, label in _class_folders(part)
        ]
        splits = [split for _, _, split in found]
    else:
        found = [(path, label, "") for path, label in _class_folders(root)]
        splits = None
    return Rows(
        root.name,
        FileSamples([path for path, _, _ in found], str(root)),
        [label for _, label, _ in found],
        splits,
        path=root,
        source=str(root),
        notes=notes,
    )


def read_loose(root: Path) -> Rows:
    """Read every sample under a folder, sorted by path, without labels.

    Raises:
        DataError: there is none.
    """
    paths = list(sample_files(root))
    if not paths:
        raise _no_images(root)
    return Rows(root.name, FileSamples(paths, str(root)), path=root, source=str(root))


def _class_folders(root: Path) -> list[tuple[Path, str]]:
    classes = _subfolders(root)
    found = [(path, folder.name) for folder in classes for path in sample_files(folder)]
    if not found:
        raise _no_images(root, loose=next(sample_files(root), None) is not None)
    filled = {label for _, label in found}
    empty = [folder for folder in classes if folder.name not in filled]
    if empty:
        listed = ", ".join(str(folder) for folder in empty[:10])
        raise DataError(
            f"{'class folder' if len(empty) == 1 else 'class folders'} without an image: {listed}",
            hint="Put images of that class there, or remove the folder.",
        )
    return found


def _subfolders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _refuse_twins(root: Path, divided: list[Path]) -> None:
    seen: dict[str, str] = {}
    for folder in divided:
        split = SPLIT_NAMES[folder.name.lower()]
        if split in seen:
            raise DataError(
                f"{root}: {seen[split]} and {folder.name} both stand for the split {split}", hint="Keep one of them."
            )
        seen[split] = folder.name


def _no_images(root: Path, *, loose: bool = False) -> DataError:
    if loose:
        return DataError(
            f"{root} has images, but no class folders",
            hint="Move the images into one folder for each class: ROOT/ants/1.jpg, ROOT/bees/2.jpg.",
        )
    return DataError(
        f"no images in {root}", hint="Expected one folder for each class: ROOT/ants/1.jpg, ROOT/bees/2.jpg."
    )
