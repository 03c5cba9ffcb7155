"""Pages that are run from top to bottom, as a reader would."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from zoo.cli.app import run

_BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.M | re.S)
_CODE = re.compile(r"# exit code (\d+)")


def steps(page: Path) -> list[tuple[str, str]]:
    """(language, code) of each block, in order."""
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


def run_page(page: Path, capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str]]:
    """Run every block in the working directory; gives (command, its stdout) of each `zoo ...`.

    Python blocks share their names. Lines of shell blocks that do not begin with `zoo` are the reader's own business.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    said: list[tuple[str, str]] = []
    for language, code in steps(page):
        if language == "python":
            exec(compile(code, str(page), "exec"), names)
            continue
        for line in code.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] != ["zoo"]:
                continue
            expected = int(found[1]) if (found := _CODE.search(line)) else 0
            capsys.readouterr()
            ended = run(words[1:])
            out, err = capsys.readouterr()
            assert ended == expected, f"{line}\n{out}{err}"
            said.append((line.partition("#")[0].strip(), out))
    return said
