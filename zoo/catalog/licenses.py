"""What a licence's name says about its terms."""

from __future__ import annotations

import re
from typing import Final

#: In a licence's name, what says that commercial use is not allowed.
_NONCOMMERCIAL: Final = re.compile(r"(?:^|[-_ ])nc(?:$|[-_ ])|non-?commercial|research-only")
#: Licences that forbid it in their text alone: Apple's for machine learning research, and SEER's.
_RESTRICTED: Final = {"apple-amlr", "seer-license"}
_UNKNOWN: Final = (None, "", "unknown", "other")


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
