"""The command line: a thin face over the Python API. Nothing here imports torch before a verb needs it."""

from __future__ import annotations


def main() -> None:
    """Run `zoo` and exit with its code."""
    import os
    import sys

    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the caller closed it: nobody listens
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    try:
        from zoo.cli.app import run
    except KeyboardInterrupt:  # later ones end in `run`
        sys.exit(130)
    if {"-q", "--quiet"} & set(sys.argv):
        import logging

        logging.getLogger("zoo").setLevel(logging.ERROR)
    sys.exit(run(sys.argv[1:]))
