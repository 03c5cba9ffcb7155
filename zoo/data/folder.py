"""A folder of class folders, optionally under train/ val/ test/; or a folder of loose files."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from zoo.data.assemble import SPLIT_NAMES, Rows
from zoo.data.files import FileSamples, sample_files, without_notes
from zoo.errors import DataError

#: One sample, several, and the end of a file's name in words; of pictures, and of texts.
_SAID: Final = (("an image", "images", ".jpg"), ("a text", "texts", ".txt"))


def read_folder(root: Path, kind: str | None = None) -> Rows:
    """Read class folders: the folder's name is the label; deeper folders belong to their class.

    Args:
        root: the folder.
        kind: of the samples, where it is known: "text" passes over pictures and recordings; else text files beside
            these are passed over.

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
        parts = {part: SPLIT_NAMES[part.name.lower()] for part in divided}
    else:
        parts = {root: ""}
    found = _class_folders(parts, kind)
    return Rows(
        root.name,
        FileSamples([path for path, _, _ in found], str(root)),
        [label for _, label, _ in found],
        [split for _, _, split in found] if root not in parts else None,
        path=root,
        source=str(root),
        notes=notes,
    )


def read_loose(root: Path, kind: str | None = None) -> Rows:
    """Read every sample under a folder, sorted by path, without labels; `kind` as for `read_folder`.

    Raises:
        DataError: there is none.
    """
    paths = without_notes(list(sample_files(root)), kind)
    if not paths:
        raise _no_samples(root, kind)
    return Rows(root.name, FileSamples(paths, str(root)), path=root, source=str(root))


def _class_folders(parts: dict[Path, str], kind: str | None) -> list[tuple[Path, str, str]]:
    """(file, class, split) of the class folders in some folders, each of which stands for a split."""
    classes = [(folder, split) for part, split in parts.items() for folder in _subfolders(part)]
    files = [(path, folder, split) for folder, split in classes for path in sample_files(folder)]
    kept = set(without_notes([path for path, _, _ in files], kind))
    found = [(path, folder, split) for path, folder, split in files if path in kept]
    for part, split in parts.items():
        if not any(split == one for _, _, one in found):
            raise _no_samples(part, kind, loose=next(sample_files(part), None) is not None)
    filled = {folder for _, folder, _ in found}
    empty = [folder for folder, _ in classes if folder not in filled]
    if empty:
        listed = ", ".join(str(folder) for folder in empty[:10])
        raise DataError(
            f"{'class folder' if len(empty) == 1 else 'class folders'} without {_SAID[kind == 'text'][0]}: {listed}",
            hint=f"Put {_SAID[kind == 'text'][1]} of that class there, or remove the folder.",
        )
    return [(path, folder.name, split) for path, folder, split in found]


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


def _no_samples(root: Path, kind: str | None, *, loose: bool = False) -> DataError:
    _, nouns, end = _SAID[kind == "text"]
    example = f"ROOT/ants/1{end}, ROOT/bees/2{end}"
    if loose:
        return DataError(
            f"{root} has {nouns}, but no class folders",
            hint=f"Move the {nouns} into one folder for each class: {example}.",
        )
    return DataError(f"no {nouns} in {root}", hint=f"Expected one folder for each class: {example}.")
