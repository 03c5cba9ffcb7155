"""What a licence's name says about its terms."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

#: In a licence's name, what says that commercial use is not allowed.
_NONCOMMERCIAL: Final = re.compile(r"(?:^|[-_ ])nc(?:$|[-_ ])|non-?commercial|research-only")
#: Licences that forbid it in their text alone: Apple's for machine learning research, and SEER's.
_RESTRICTED: Final = {"apple-amlr", "seer-license"}
#: Licences that the Hub's model cards have an identifier for; https://huggingface.co/docs/hub/repositories-licenses.
HUB: Final = frozenset(
    """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
    afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0
    lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl
    openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license
    fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 gemma unknown other
    """.split()  # noqa: SIM905  (a list of so many lines would be longer than this file)
)
_UNKNOWN: Final = (None, "", "unknown", "other")


def joint(found: Iterable[str | None]) -> str | None:
    """The one to state for what was made of things under several: one that forbids the most, else the first known.

    >>> joint(["apache-2.0", "cc-by-nc-4.0", None])
    'cc-by-nc-4.0'
    >>> joint([None, "mit"])
    'mit'
    """
    known = [one for one in found if one is not None]
    return next((one for one in known if one.casefold() not in _UNKNOWN and warning(one)), known[0] if known else None)


def warning(license: str | None) -> str | None:
    """A sentence for people who are about to use weights under this licence; None where none is needed.

    >>> warning("cc-by-nc-4.0")
    'the licence cc-by-nc-4.0 allows no commercial use'
    """
    if license is None or license.casefold() in _UNKNOWN:
        return "its licence is not known: ask the publisher before you use it for more than a trial"
    if license.casefold() in _RESTRICTED or _NONCOMMERCIAL.search(license.casefold()):
        return f"the licence {license} allows no commercial use"
    return None
