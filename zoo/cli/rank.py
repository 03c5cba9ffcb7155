"""`python -m zoo.cli.rank ARGS`: one of the processes that `zoo fit --processes N` starts."""

from __future__ import annotations

import _thread
import json
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# As in `zoo.__main__`.
if sys.path and sys.path[0] in ("", os.getcwd()):
    del sys.path[0]

from zoo.cli.app import run
from zoo.cli.output import Output
from zoo.cli.processes import REPORT


class Told(Output):
    """Leaves an error to the process that started this one, which prints it."""

    def error(
        self,
        code: str,
        message: str,
        why: str | None,
        hint: str | None,
        notes: Sequence[str],
        facts: Mapping[str, Any] | None = None,
        exit_code: int = 1,
    ) -> None:
        """Write it where it is looked for."""
        said = {
            "code": code,
            "message": message,
            "why": why,
            "hint": hint,
            "notes": list(notes),
            "exit_code": exit_code,
        }
        report = Path(os.environ[REPORT])
        part = report.with_suffix(".part")
        part.write_text(json.dumps({**said, "facts": dict(facts or {}), "exit_code": exit_code}), encoding="utf-8")
        part.replace(report)


def _listen() -> None:
    """A line on stdin is a Ctrl-C; its end is the end of who started this process, and so of this one."""
    while os.read(0, 64):
        _thread.interrupt_main()
    os._exit(143)


def main() -> None:
    """Run a command line as one of several."""
    threading.Thread(target=_listen, daemon=True).start()
    code = run(sys.argv[1:], Told(quiet=True))
    if code == 0 and "torch" in sys.modules:
        import torch

        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    sys.exit(code)


if __name__ == "__main__":
    main()
