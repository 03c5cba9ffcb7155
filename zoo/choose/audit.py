"""Is the data sound? Unreadable, odd and double files, leaks, doubtful labels, shifts and shortcuts."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor

from zoo.adapt.features import FeatureStore, shared_store
from zoo.adapt.source import NamedSource, kind_of, with_files
from zoo.atomic import write_atomically
from zoo.catalog.check import absent_distribution
from zoo.catalog.spec import Preprocessing
from zoo.catalog.tables import counted
from zoo.choose import duplicates, shifts
from zoo.choose.compare import first_alike
from zoo.choose.look import SIDE, Look, look_at
from zoo.choose.raw import cepstra, texts, words
from zoo.choose.suspects import label_suspects
from zoo.data import table
from zoo.data.dataset import TRAIN, Data, Split
from zoo.data.join import together
from zoo.data.loading import batches
from zoo.data.open import open_data
from zoo.data.task import CLASSES
from zoo.errors import DataError, UsageError
from zoo.models.accelerator import choose as choose_accelerator
from zoo.weights.files import disk_errors
from zoo.weights.store import Store

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry

#: Called with (what, done, total).
Progress = Callable[[str, int, int], None]
#: A thumbnail whose grey values spread less than this (of 255) is blank.
BLANK: Final = 2.0
#: A class is called rare below this part of the largest one.
RARE: Final = 0.2
#: What spreadsheets begin a formula with; the last four are full-width forms of the first.
_FORMULA: Final = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
#: Findings of a kind that are printed; JSON and `fix_list` have all.
SHOWN: Final = 10

Finding = dict[str, Any]


@dataclass(frozen=True)
class Audit:
    """What an audit found. Every finding has `path`, `split` and `index` (the row's number in its split).

    Attributes:
        data: name of the data set.
        classes: class -> {split: rows}.
        unreadable: files that cannot be read, and why.
        odd: blank pictures, and classes far rarer than the largest.
        duplicates: exact copies of an earlier sample (`same_as`), with both labels.
        near_duplicates: the same picture in other bytes.
        leakage: samples of val or test that train holds too, exactly, nearly or by way of other copies.
        label_suspects: labels that neither a probe that did not see the row nor its neighbours believe.
        shifts: splits that can be told apart (`kind` "split"), and classes that a property of their files gives away
            (`kind` "shortcut"), in words.
        notes: what was looked at, and by which backbone.
        rows: samples looked at.
    """

    data: str
    classes: Mapping[str, Mapping[str, int]]
    unreadable: list[Finding] = field(default_factory=list)
    odd: list[Finding] = field(default_factory=list)
    duplicates: list[Finding] = field(default_factory=list)
    near_duplicates: list[Finding] = field(default_factory=list)
    leakage: list[Finding] = field(default_factory=list)
    label_suspects: list[Finding] = field(default_factory=list)
    shifts: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows: int = 0

    _KINDS = ("unreadable", "odd", "duplicates", "near_duplicates", "leakage", "label_suspects", "shifts")

    def as_json(self) -> dict[str, Any]:
        """All of it, in types that JSON has."""
        found = {kind: getattr(self, kind) for kind in self._KINDS}
        classes = {name: dict(counts) for name, counts in self.classes.items()}
        return {"data": self.data, "rows": self.rows, "classes": classes, **found, "notes": self.notes}

    def __str__(self) -> str:
        lines = [f"{self.data}: {counted(self.rows, 'sample')}, {counted(len(self.classes), 'class', 'classes')}"]
        for name, counts in self.classes.items():
            lines.append(f"  {name}: " + ", ".join(f"{count} {split}" for split, count in counts.items()))
        for kind in self._KINDS:
            found = getattr(self, kind)
            lines.append(f"{kind.replace('_', ' ')}: {len(found) or 'none'}")
            lines += [f"  {one['words']}" for one in found[:SHOWN]]
            if len(found) > SHOWN:
                lines.append(f"  ... and {len(found) - SHOWN} more (--json, --fix-list)")
        return "\n".join(lines + [f"note: {note}" for note in self.notes])

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"

    def fix_list(self, path: str | Path) -> Path:
        """Write the findings about single samples as a CSV to edit: one row each, `action` left for a person to fill.

        Cells that a spreadsheet would run as a formula are written with a leading apostrophe.

        Raises:
            UsageError: there is such a file already.
            DiskError: it cannot be written there.
        """
        path = Path(path)
        check_fix_list(path)
        import io

        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["finding", "path", "split", "index", "label", "suggested", "why", "action"])
        for kind in self._KINDS:
            for one in getattr(self, kind):
                if kind != "shifts" and one.get("index") is not None:
                    cells = [one["path"], one["split"], one["index"], one.get("label"), one.get("suggested")]
                    writer.writerow([_harmless(cell) for cell in (kind, *cells, one["words"], "")])
        with disk_errors("write", path):
            write_atomically(path, text.getvalue().encode("utf-8", "backslashreplace"))  # a file's name may be no text
        return path


def check_fix_list(path: Path) -> None:
    """Find out, before the work, whether a list can be written there.

    Raises:
        UsageError: something is there.
    """
    with disk_errors("read", path):
        taken = os.path.lexists(path)
    if taken:
        raise UsageError(f"{path} exists", hint="Choose another name; a list that was edited is never overwritten.")


def _harmless(cell: Any) -> str:
    """A cell that no spreadsheet takes for a formula: also behind blanks, and with signs of full width."""
    text = "" if cell is None else str(cell)
    return f"'{text}" if text[:1] in ("\t", "\r", "\n") or text.lstrip()[:1] in _FORMULA else text


def audit(
    data: Any,
    backbone: str | None = None,
    *,
    accelerator: str = "auto",
    precision: str = "auto",
    seed: int = 0,
    label: str | None = None,
    registry: Registry | None = None,
    store: FeatureStore | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Look for what would spoil a model or a figure. Nothing is changed.

    Args:
        data: what `fit` takes, labelled or not.
        backbone: whose features are used for labels, near duplicates and shifts; None = of the weights on this disk
            that take such samples those with the best published accuracy; where there are none thumbnails, cepstra or
            words, and of rows of a table their columns.
        accelerator, precision: as in `compose`.
        seed: of the folds.
        label: the column of the target, where the data have columns; None = the one named `label`.
        registry: None = the default one.
        store: where features are kept; None = the store of this process.
        progress: called with (what, done, total).

    Raises:
        NotFoundError: no such data or backbone.
        DataError: nothing can be read at all.
    """
    from zoo.catalog.registry import default

    registry = registry or default()
    kind = None if backbone is None else kind_of(NamedSource(*registry.resolve(backbone), registry).preprocessing)
    opened = _open(data, kind, label)
    rows = _Rows(opened)
    looks = look_at(rows.splits)
    notes = [note for note in opened.notes if "left out" not in note]
    features, said = _features(rows, looks, backbone, accelerator, precision, seed, registry, store, progress)
    notes.append(said)
    copies = duplicates.exact(rows.digests)
    blank = [i for i, look in enumerate(looks) if look is not None and look.contrast < BLANK]
    alike = _near(looks, features, {later for later, _ in copies} | set(blank))
    pairs = [(later, first, 1.0) for later, first in copies]
    return Audit(
        data=opened.name,
        classes=rows.counts(),
        unreadable=[
            {"path": one.location, "split": None, "index": None, "words": f"{one.location}: {one.reason}"}
            for one in opened.skipped
        ],
        odd=[rows.finding(i, f"{rows.where(i)} is blank") for i in blank] + _rare(rows),
        duplicates=[rows.twin(i, j, s, rows.same) for i, j, s in pairs],
        near_duplicates=[rows.twin(i, j, s, "looks like a copy of") for i, j, s in duplicates.leading(alike)],
        leakage=[rows.leak(i, j, s) for i, j, s in duplicates.leaks([*pairs, *alike], rows.trained)],
        label_suspects=_suspects(rows, features, seed),
        shifts=_splits(rows, features, seed) + _shortcuts(rows, looks, seed),
        notes=notes,
        rows=len(rows.digests),
    )


def _open(data: Any, kind: str | None, label: str | None) -> Data:
    try:
        return open_data(data, kind=kind, label=label, skip_bad=True)
    except DataError as error:
        absent = label is None and "no column label" in error.message
        if "targets" not in error.message and "class" not in error.message and not absent:
            raise
        opened = open_data(data, kind=kind, label=label, skip_bad=True, labelled=False)
        return replace(opened, notes=(*opened.notes, f"labels were not looked at: {error.message}"))


class _Rows:
    """All rows of all splits under one number each."""

    def __init__(self, data: Data) -> None:
        self.splits: list[Split] = list(data.splits.values())
        self.places = [(split, index) for split in self.splits for index in range(len(split))]
        self.digests = [split.digest(index) for split, index in self.places]
        self.task = data.task
        labelled = (
            self.task is not None and self.task.kind == CLASSES and all(s.targets is not None for s in self.splits)
        )
        self.codes = np.concatenate([np.asarray(s.targets) for s in self.splits]) if labelled else None

    @property
    def same(self) -> str:
        """What an exact copy has, in words."""
        return "has the same cells as" if self.splits[0].samples.kind == "table" else "has the same bytes as"

    def of_split(self, name: str) -> np.ndarray:
        return np.array([i for i, (split, _) in enumerate(self.places) if split.name == name], dtype=np.int64)

    def label(self, row: int) -> str | None:
        return None if self.codes is None or self.task is None else self.task.classes[int(self.codes[row])]

    def where(self, row: int) -> str:
        split, index = self.places[row]
        return split.named(index) or f"{split.name}[{index}]"

    def place(self, row: int) -> Finding:
        split, index = self.places[row]
        where = {"path": split.named(index), "split": split.name, "index": index}
        return where if self.codes is None else {**where, "label": self.label(row)}

    def finding(self, row: int, words: str, **more: Any) -> Finding:
        return {**self.place(row), **more, "words": words}

    def twin(self, row: int, other: int, similarity: float, what: str) -> Finding:
        words = f"{self.where(row)} {what} {self.where(other)}"
        if self.label(row) != self.label(other):
            words += f", under another label ({self.label(row)}, {self.label(other)})"
        return self.finding(row, words, same_as=self.place(other), similarity=round(similarity, 5))

    def trained(self, row: int) -> bool:
        """Whether the row is learned from."""
        return self.places[row][0].name == TRAIN

    def leak(self, judged: int, trained: int, similarity: float) -> Finding:
        words = f"{self.where(judged)} ({self.places[judged][0].name}) is in train too: {self.where(trained)}"
        kind = "exact" if self.digests[judged] == self.digests[trained] else "near"
        return self.finding(judged, words, same_as=self.place(trained), similarity=round(similarity, 5), kind=kind)

    def counts(self) -> dict[str, dict[str, int]]:
        if self.task is None or self.task.kind != CLASSES:
            return {}
        return {
            name: {
                split.name: int((np.asarray(split.targets) == code).sum())
                for split in self.splits
                if split.targets is not None
            }
            for code, name in enumerate(self.task.classes)
        }


def _features(
    rows: _Rows,
    looks: list[Look | None],
    backbone: str | None,
    accelerator: str,
    precision: str,
    seed: int,
    registry: Registry,
    store: FeatureStore | None,
    progress: Progress | None,
) -> tuple[Tensor | None, str]:
    """(N, D) of all rows and a sentence on where they come from; None where there is nothing to compare."""
    pictures = all(look is not None for look in looks)
    kinds = {split.samples.kind for split in rows.splits}
    heard = kinds == {"audio"}
    # Weights for tables know the columns of one table alone, so that none are chosen for others.
    seen_as = "image" if pictures or heard else "text" if kinds == {"text"} else None
    name = backbone or (_best_here(registry, seen_as) if seen_as else None)
    if name is not None:
        spec, weights = registry.resolve(name)
        like = None if weights else with_files(registry.default_weights(spec))
        network = NamedSource(spec, weights, registry, seed=seed, like=like).network(progress)
        placement = choose_accelerator(accelerator, precision)
        network = network.to(placement.device)
        told = (lambda done, total: progress("features", done, total)) if progress else None
        parts = [(store or shared_store()).features(network, split, placement, progress=told) for split in rows.splits]
        used = weights.name if weights else f"{spec.name} with random weights"
        return torch.cat(parts), f"labels, near duplicates and shifts as {used} sees them"
    if pictures:
        seen = [np.concatenate([look.thumbnail.ravel(), look.colours.ravel()]) for look in looks if look is not None]
        return torch.from_numpy(np.stack(seen)), (
            f"no weights are on this disk: samples are compared by thumbnails of {SIDE} x {SIDE} pixels; "
            "with a backbone (-b NAME) labels and shifts are judged far better"
        )
    if heard:
        parts = [cepstra(split) for split in rows.splits]
        return torch.cat(parts), "no weights are on this disk: recordings are compared by their cepstra"
    if seen_as == "text":
        return words([text for split in rows.splits for text in texts(split)], seed), (
            "no weights for texts are on this disk: texts are compared by their words; with a backbone (-b NAME) "
            "labels and shifts are judged far better"
        )
    if kinds == {"table"}:
        return _columns(rows)
    flat = [np.asarray(split.raw(index)).ravel() for split, index in rows.places]
    if len({len(row) for row in flat}) == 1:
        return torch.from_numpy(np.stack(flat)).float(), "samples are compared as the numbers they are"
    return None, "samples are of different shapes: they are compared by their bytes alone"


def _columns(rows: _Rows) -> tuple[Tensor, str]:
    """Rows of tables as the numbers that a reader makes of them which has seen them all."""
    made, notes = table.fit(Preprocessing(kind=table.KIND), together(rows.splits))
    read = table.TableReader(made, made.input_size[0])
    parts = [batch.x for split in rows.splits for batch in batches(split, read, 512)]
    found = torch.cat([part for part in parts if isinstance(part, Tensor)])
    said = "rows are compared by their columns, numbers standardised and categories one by one"
    return found, "; ".join([said, *notes])


def _best_here(registry: Registry, kind: str) -> str | None:
    """Of the weights here that eat samples of a kind, and whose packages are here, those with the best published
    accuracy, then ImageNet's, then the largest."""
    store = Store(registry.settings)
    best: tuple[tuple[float, bool, int], str] | None = None
    for weights in registry.weights():
        if not store.is_pulled(weights):
            continue
        spec = registry.backbone(weights.arch)
        if spec.input == kind and absent_distribution(spec.requires) is None:
            general = "imagenet" in (weights.trained_on or "").lower()
            key = (float(weights.metrics.get("top1", 0.0)), general, spec.params or 0)
            if best is None or key > best[0]:
                best = key, weights.name
    return best[1] if best else None


def _near(looks: list[Look | None], features: Tensor | None, skip: set[int]) -> list[tuple[int, int, float]]:
    """Pairs by thumbnails and by features; one pair may come from both."""
    pairs: list[tuple[int, int, float]] = []
    if all(look is not None for look in looks):
        thumbnails = np.stack([look.thumbnail.ravel() for look in looks if look is not None])
        pairs += duplicates.near(thumbnails, "thumbnail", skip=skip)
    if features is not None:
        pairs += duplicates.near(features.numpy(), "features", skip=skip)
    return pairs


def _rare(rows: _Rows) -> list[Finding]:
    totals = {name: sum(counts.values()) for name, counts in rows.counts().items()}
    largest = max(totals.values(), default=0)
    return [
        {"path": None, "split": None, "index": None, "label": name,
         "words": f"class {name} has {counted(count, 'sample')}, the largest class {largest}"}
        for name, count in totals.items()
        if count < RARE * largest
    ]  # fmt: skip


def _suspects(rows: _Rows, features: Tensor | None, seed: int) -> list[Finding]:
    if features is None or rows.codes is None or rows.task is None or rows.task.outputs < 2:
        return []
    name, first = rows.task.classes.__getitem__, first_alike(rows.digests)
    return [
        rows.finding(
            one.row,
            f"{rows.where(one.row)} is labelled {rows.label(one.row)} and looks like {name(one.suggested)}",
            suggested=name(one.suggested),
            p_label=round(one.p_label, 5),
            p_suggested=round(one.p_suggested, 5),
            neighbours=round(one.neighbours, 5),
        )
        for one in label_suspects(features, rows.codes, rows.task, seed, first)
    ]


def _splits(rows: _Rows, features: Tensor | None, seed: int) -> list[Finding]:
    if features is None:
        return []
    names = [split.name for split in rows.splits]
    found = []
    for position, one in enumerate(names):
        for other in names[position + 1 :]:
            told = shifts.split_shift(features, rows.of_split(one), rows.of_split(other), rows.codes, seed)
            if told is not None:
                words = f"a classifier tells {other} from {one} {shifts.strength(told.auc)} (AUC {told.auc:.2f})"
                found.append(_shift(rows, told, words, kind="split", between=[one, other]))
    return found


def _shortcuts(rows: _Rows, looks: list[Look | None], seed: int) -> list[Finding]:
    if rows.codes is None or rows.task is None:
        return []
    found = []
    for code, name in enumerate(rows.task.classes):
        told = shifts.class_shortcuts(looks, rows.codes == code, seed)
        if told:
            words = (
                f"class {name} seems to come from another collection: its files differ in "
                f"{'; '.join(one.words for one in told)}; a model may learn the collection, not the class"
            )
            found.append(_shift(rows, told[0], words, kind="shortcut", label=name, attribute=told[0].attribute))
    return sorted(found, key=lambda one: -one["auc"])


def _shift(rows: _Rows, told: shifts.Telling, words: str, **more: Any) -> Finding:
    samples = [rows.place(row) for row in told.rows]
    facts = {"auc": round(told.auc, 4), "interval": [round(end, 4) for end in told.interval], "samples": samples}
    return {**samples[0], **facts, **more, "words": words}
