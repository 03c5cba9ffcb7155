"""The rows of a ranking, and how they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any, Final, overload

from zoo.catalog.tables import html_table

_OPINIONS: Final = ("LogME", "H", "LEEP", "kNN")


@dataclass(frozen=True)
class Ranked:
    """One row of a ranking.

    Attributes:
        backbone, weights, plugin: what was tried.
        score: cross-validated score of a linear probe: accuracy (classes), micro F1 (multi-label) or R2 (regression).
        stderr: its standard error: over the rows, or their groups (classes), else over the folds.
        tied_with_best: whether a paired test cannot tell it from the best.
        p_value: of that test, Holm-corrected; None for the best itself. Of what was dropped in an early round: against
            the best of that round, on its rows.
        rows: training rows it was tried on; fewer than all where it was dropped on the way.
        logme, h_score, leep, knn: second opinions (see `zoo.choose.scores`); None where they do not apply.
        published: the accuracy its publisher states on the source task, in percent: known before any data is seen.
        params, license, bytes_to_pull: what it costs; the bytes are 0 for weights that were on this disk already.
        images_per_second: of the forward pass here; None where all features were known already.
        seconds: this candidate took in all.
    """

    backbone: str
    weights: str
    plugin: str
    score: float
    stderr: float
    tied_with_best: bool
    p_value: float | None
    rows: int
    logme: float
    h_score: float | None
    leep: float | None
    knn: float | None
    published: float | None
    params: int | None
    license: str | None
    bytes_to_pull: int | None
    images_per_second: float | None
    seconds: float


class Ranking(Sequence[Ranked]):
    """Candidates, best first. Prints as a table, renders as one in a notebook.

    Attributes:
        rows: the candidates.
        data: name of the data set.
        measure: what `score` is: "accuracy", "f1" or "r2".
        notes: sentences the user should read.
    """

    def __init__(self, rows: list[Ranked], *, data: str, measure: str, notes: list[str]) -> None:
        self.rows, self.data, self.measure, self.notes = rows, data, measure, notes

    @overload
    def __getitem__(self, index: int) -> Ranked: ...
    @overload
    def __getitem__(self, index: slice) -> list[Ranked]: ...
    def __getitem__(self, index: int | slice) -> Ranked | list[Ranked]:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ties(self) -> list[Ranked]:
        """The best, and those that cannot be told from it."""
        return [row for row in self.rows if row.tied_with_best]

    def as_json(self) -> list[dict[str, Any]]:
        """One object a row."""
        return [asdict(row) for row in self.rows]

    def sentence(self) -> str:
        """What to conclude, in one line."""
        best, *others = self.ties
        text = f"best on {self.data}: {best.weights}, {self.measure} {best.score:.3f} ± {best.stderr:.3f}"
        if len(self.rows) == 1:
            return text
        if not others:
            return f"{text}; the difference to all others is beyond chance"
        named = ", ".join(row.weights for row in others[:4]) + (", ..." if len(others) > 4 else "")
        return f"{text}; not told apart from it: {named}"

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows of text."""
        header = [
            "",
            "weights",
            self.measure,
            "± s.e.",
            "rows",
            "LogME",
            "H",
            "LEEP",
            "kNN",
            "params",
            "img/s",
            "licence",
        ]
        lines = [
            [
                "=" if row.tied_with_best else "",
                row.weights,
                f"{row.score:.3f}",
                f"{row.stderr:.3f}",
                str(row.rows),
                *(_shown(value) for value in (row.logme, row.h_score, row.leep, row.knn)),
                "-" if row.params is None else f"{row.params / 1e6:.1f} M",
                "-" if row.images_per_second is None else f"{row.images_per_second:.0f}",
                row.license or "-",
            ]
            for row in self.rows
        ]
        return header, lines

    def __str__(self) -> str:
        header, lines = self.table()
        widths = [max(len(line[i]) for line in [header, *lines]) for i in range(len(header))]
        text = []
        for line in [header, *lines]:
            cells = [
                cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
            ]
            text.append("  ".join(cells).rstrip())
        return "\n".join([*text, self.sentence()])

    def _repr_html_(self) -> str:
        header, lines = self.table()
        return f"{html_table(header, lines)}<p>{escape(self.sentence())}</p>"


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
