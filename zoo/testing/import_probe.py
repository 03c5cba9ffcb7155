"""Import one plugin in a process of its own, call what lists its specs, and say on stderr what that did.

    python -m zoo.testing.import_probe MODULE FOLDER

FOLDER is put on `sys.path` first; "" = none. The last line of stderr is JSON: {"heavy": [...], "asked": [...],
"printed": "...", "error": null or "..."}.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import sys

from zoo.catalog.hookspecs import hookimpl  # noqa: F401  (what every plugin imports is not its doing)
from zoo.catalog.plugins import HEAVY
from zoo.testing.offline import no_network

#: Hooks that list specs and take no argument.
LISTING = ("zoo_backbones", "zoo_strategies", "zoo_weights")


def probe(module: str, folder: str) -> dict[str, object]:
    """Import and list; what happened."""
    if folder:
        sys.path.insert(0, folder)
    printed, error = io.StringIO(), None
    with no_network() as asked, contextlib.redirect_stdout(printed):
        try:
            plugin = importlib.import_module(module)
            for name in LISTING:
                if callable(hook := getattr(plugin, name, None)):
                    list(hook() or ())
        except (Exception, SystemExit) as caught:
            error = f"{type(caught).__name__}: {caught}"
    heavy = [name for name in HEAVY if name in sys.modules]
    return {"heavy": heavy, "asked": asked, "printed": printed.getvalue(), "error": error}


if __name__ == "__main__":
    print("\n" + json.dumps(probe(*sys.argv[1:3])), file=sys.stderr)
