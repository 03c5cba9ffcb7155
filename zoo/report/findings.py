"""An audit as a section of a report: what was found, with the samples that show it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from zoo.report.evidence import Evidence
from zoo.report.samples import Shown, sample_of

#: Kinds of findings -> what they are called.
_KINDS: Final = {
    "unreadable": "Unreadable",
    "odd": "Odd",
    "leakage": "Leakage between splits",
    "duplicates": "Exact copies",
    "near_duplicates": "Near copies",
    "label_suspects": "Labels to look at",
}
#: What is to be known of a kind.
_WORDS: Final = {"label_suspects": "The least believed first. Many are only hard: look at them before you change one."}
_ALL: Final = "zoo audit --fix-list writes all."
#: Kinds that are shown as two samples side by side.
_PAIRS: Final = ("leakage", "duplicates", "near_duplicates")
#: Findings of a kind that are shown, with their samples and without.
_SHOWN: Final = 8
_LISTED: Final = 12


def found_in(evidence: Evidence) -> dict[str, Any] | None:
    """What the template shows of an audit."""
    found = evidence.audit
    if found is None:
        return None
    kinds = [_kind(kind, getattr(found, kind), evidence) for kind in _KINDS if getattr(found, kind)]
    splits = list(dict.fromkeys(name for counts in found.classes.values() for name in counts))
    total = sum(len(getattr(found, kind)) for kind in _KINDS)
    return {
        "words": f"{found.rows:,} samples were looked at; {total or 'no'} findings about single ones"
        + (f", and {len(found.shifts)} about classes or splits." if found.shifts else "."),
        "shortcuts": [evidence.shorter(one["words"]) for one in found.shifts],
        "kinds": kinds,
        "splits": splits,
        "classes": [(name, [counts.get(split, 0) for split in splits]) for name, counts in found.classes.items()],
        "notes": [evidence.shorter(note) for note in found.notes],
    }


def _kind(kind: str, findings: list[dict[str, Any]], evidence: Evidence) -> dict[str, Any]:
    pairs = kind in _PAIRS
    samples: list[dict[str, Any]] = []
    for one in findings[:_SHOWN]:
        seen = [_sample(place, evidence) for place in ((one, one["same_as"]) if pairs else (one,))]
        if all(seen):
            samples.append({"samples": seen, "words": evidence.shorter(one["words"])})
    lines = [] if samples else [evidence.shorter(one["words"]) for one in findings[:_LISTED]]
    left = len(findings) - max(len(samples), len(lines))
    return {
        "name": _KINDS[kind],
        "n": len(findings),
        "pairs": pairs,
        "samples": samples,
        "wide": any(seen.wide for one in samples for seen in one["samples"]),
        "lines": lines,
        "words": [text for text in (_WORDS.get(kind, ""), f"... and {left} more; {_ALL}" if left else "") if text],
    }


def _sample(place: Mapping[str, Any], evidence: Evidence) -> Shown:
    if evidence.data is None or place.get("index") is None:
        return Shown()
    return sample_of(evidence.data.splits[place["split"]], place["index"])
