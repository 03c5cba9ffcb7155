"""Workers of a queue that die: `python killing_workers.py FOLDER`.

For N = 1, 2, ... a forked worker sends itself SIGKILL before its N-th call that touches the disk, until one gets
through. After each death two more work at the same queue at once. The last line of the output is JSON: the number of
deaths, and what went wrong.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from zoo.choose import queue
from zoo.choose.queue import open_queue

#: The C functions through which Python changes a disk.
CALLS = {"open", "write", "fsync", "rename", "replace", "link", "unlink", "mkdir", "rmdir", "utime"}
ITEMS = ["a", "b", "c"]
ROUNDS = 2


def die_at(number: int) -> None:
    left = number

    def hook(_: Any, event: str, function: Any) -> None:
        nonlocal left
        if event == "c_call" and function.__name__ in CALLS and isinstance(function.__self__, ModuleType | io.FileIO):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(hook)


def work(folder: Path) -> list[list[dict[str, Any]]]:
    made, _ = open_queue(folder, {"what": "letters"})
    return [made.work(number, ITEMS, lambda item: {"value": item * 2}) for number in range(ROUNDS)]


def forked(folder: Path, number: int | None = None) -> int:
    child = os.fork()
    if child == 0:
        try:
            if number is not None:
                die_at(number)
            work(folder)
            sys.setprofile(None)
            os._exit(0)
        except BaseException:
            sys.setprofile(None)
            traceback.print_exc()
            os._exit(1)
    return child


def ended(child: int) -> int:
    return os.waitpid(child, 0)[1]


def problems(folder: Path) -> list[str]:
    found = work(folder)  # everything is done: this only reads
    expected = [[item * 2 for item in ITEMS]] * ROUNDS
    wrong = [] if [[one["value"] for one in part] for part in found] == expected else [f"results {found}"]
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    there = sorted(["queue.json", *(f"round-{r}/done/{i:04}.json" for r in range(ROUNDS) for i in range(len(ITEMS)))])
    if names != there:
        wrong.append(f"files {names}")
    if strays := [path.name for path in folder.parent.iterdir() if path.name.startswith(f".{folder.name}.")]:
        wrong.append(f"beside it {strays}")
    return wrong


def main(place: Path) -> None:
    queue.BEAT_S, queue.STALE_S, queue.LOOK_S = 0.02, 0.1, 0.01
    deaths, wrong = 0, []
    while True:
        folder = place / f"queue-{deaths}"
        status = ended(forked(folder, deaths + 1))
        if status == 0:
            break
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            wrong.append(f"{deaths}: ended with {status}")
        deaths += 1
        others = [forked(folder) for _ in range(2)]
        if any(ended(child) for child in others):
            wrong.append(f"{deaths}: a survivor failed")
        wrong += [f"{deaths}: {what}" for what in problems(folder)]
    print(json.dumps({"deaths": deaths, "wrong": wrong}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
