"""`--processes`: several processes fit one model, from one command line. See docs/processes.md.

They are started with torchrun's own variables, so that torchrun can start them too. This starter imports no torch, has
no port that others could reach, and hands on one error of them all instead of a table of tracebacks.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from zoo.errors import TrainingError, UsageError, ZooError

if TYPE_CHECKING:
    from zoo.catalog.registry import Registry
    from zoo.cli.output import Output
    from zoo.cli.resume import Begun

#: Names the file that a process leaves its error in. It says that `launch` started it.
REPORT: Final = "ZOO_REPORT"
#: Names the file in which the processes find each other; `zoo.adapt.group.MEETING`.
MEETING: Final = "ZOO_MEETING"
#: Seconds that the others may take to end by themselves once one has: to notice, and to keep the last good state.
GRACE: Final = 20.0
#: Seconds for the leading one, which may have much to write once the others have stopped at Ctrl-C.
WRITING: Final = 120.0
#: Seconds after which those that were asked to end are killed.
LAST: Final = 5.0
#: Seconds between two looks.
_LOOK: Final = 0.05
#: Lines of what a process said before it died that are shown.
_LINES: Final = 5


def share() -> int:
    """How many processes this one was started with, itself included, by `launch` or by torchrun."""
    size = os.environ.get("WORLD_SIZE", "")
    return int(size) if size.isdigit() and os.environ.get("RANK", "").isdigit() else 1


def wanted(processes: int | None, strategy: str | None, begun: Begun | None, registry: Registry, out: Output) -> int:
    """How many processes to start; 1 = this one does it.

    Args:
        processes: what was asked for; None = what the run was begun with, else one.
        strategy: its name; None = that of the run.
        begun: the run that goes on, if there is one.

    Raises:
        UsageError: started by torchrun with another number.
    """
    if (here := share()) > 1:
        if processes not in (None, here):
            raise UsageError(
                f"--processes {processes}, but torchrun started {here}", hint="Leave --processes out, or torchrun."
            )
        return 1
    kept = begun.record.get("processes") if begun else None
    count = processes or (kept if isinstance(kept, int) else 1)
    if count == 1 or (begun and begun.done):
        return 1
    named = strategy or (begun.call.get("strategy") if begun else None)
    if isinstance(named, str) and registry.strategy(named).kind == "closed-form":
        out.notes([f"{named} is solved in closed form, by one process"])
        return 1
    if count > (cores := available()):
        out.notes([f"{count} processes share {cores} core{'s' * (cores > 1)}"])
    return count


def available() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class _Rank:
    """One of the processes.

    Attributes:
        number: from 0, which leads.
        process: itself; what is written to its stdin asks it to stop, and its end tells it that we are gone.
        report: where it leaves its error.
        log: what it says on stderr, unless it leads.
    """

    number: int
    process: subprocess.Popen[bytes]
    report: Path
    log: Path

    @property
    def code(self) -> int | None:
        return self.process.poll()

    def interrupt(self) -> None:
        with contextlib.suppress(OSError):
            assert self.process.stdin is not None
            self.process.stdin.write(b"stop\n")
            self.process.stdin.flush()

    def said(self) -> dict[str, Any] | None:
        """The error that it left, where it left one."""
        try:
            found = json.loads(self.report.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def last_lines(self) -> str:
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-_LINES:])


def launch(args: tuple[Sequence[str], Sequence[str]], count: int, run: Path) -> None:
    """Do what a command line says with `count` processes, and wait for them. The leading one prints.

    Args:
        args: the command line: up to the verb, and behind it, where `--` may end the options.
        count: processes, at least 2.
        run: the folder that all of them are told.

    Raises:
        ZooError: what the first of them to fail said; or that it was killed. None of them is left.
        KeyboardInterrupt: Ctrl-C; they were asked to stop, and its notes are theirs.
    """
    with tempfile.TemporaryDirectory(prefix="zoo-", ignore_cleanup_errors=True) as folder, _ended_in_order():
        ranks: list[_Rank] = []
        try:
            for number in range(count):
                ranks.append(_start(number, _told(args, number, run), count, Path(folder)))
            seen = _watch(ranks)
        finally:
            for rank in ranks:
                if rank.code is None:
                    rank.process.kill()
                rank.process.wait()
                with contextlib.suppress(OSError):
                    rank.process.stdin.close()  # type: ignore[union-attr]
        _conclude(ranks, run, seen)


def _told(args: tuple[Sequence[str], Sequence[str]], number: int, run: Path) -> list[str]:
    """The command line of one process: only the leading one prints."""
    verb, behind = args
    return [*verb, "--output", str(run), *(["--quiet"] if number else []), *behind]


def _start(number: int, args: Sequence[str], count: int, folder: Path) -> _Rank:
    report, log = folder / f"report-{number}.json", folder / f"log-{number}.txt"
    environment = {
        **os.environ,
        "RANK": str(number),
        "LOCAL_RANK": str(number),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        MEETING: str(folder / "meeting"),
        REPORT: str(report),
    }
    environment.setdefault("OMP_NUM_THREADS", str(max(1, available() // count)))
    # A session of its own: Ctrl-C reaches this process, which hands it on once to each.
    more: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        more = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "zoo.cli.rank", *args],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=None if number == 0 else subprocess.DEVNULL,
            stderr=None if number == 0 else file,
            **more,
        )
    return _Rank(number, process, report, log)


@dataclass
class _Seen:
    """What happened while they ran.

    Attributes:
        asked: how often somebody pressed Ctrl-C.
        stopped: numbers of those that were made to end.
    """

    asked: int = 0
    stopped: set[int] = field(default_factory=set)


def _watch(ranks: Sequence[_Rank]) -> _Seen:
    """Wait until all have ended. Once one has failed, or the leading one is done, the others must follow soon."""
    seen = _Seen()
    since: float | None = None
    while any(rank.code is None for rank in ranks):
        try:
            codes = [rank.code for rank in ranks]
            over = codes[0] is not None or any(code not in (None, 0, 130) for code in codes)
            if over or 130 in codes or seen.asked > 2:
                since = since or time.monotonic()
                waited = time.monotonic() - since
                grace = GRACE if over else WRITING
                for rank in ranks:
                    if rank.code is None and (waited > grace or seen.asked > 2):
                        seen.stopped.add(rank.number)
                        rank.process.kill() if waited > grace + LAST else rank.process.terminate()
            time.sleep(_LOOK)
        except KeyboardInterrupt:
            seen.asked += 1
            for rank in ranks:
                rank.interrupt()
    return seen


def _conclude(ranks: Sequence[_Rank], run: Path, seen: _Seen) -> None:
    """Raise what went wrong, in the words of who knows.

    Args:
        ranks: which have ended.
        run: where a fit can go on.
        seen: what `_watch` saw. After Ctrl-C, what broke off in the midst of an import or a call is no fault.
    """
    if ranks[0].code == 0:
        return
    said = {rank.number: found for rank in ranks if (found := rank.said())}
    first = said.get(0, {})
    notes = [str(note) for note in first.get("notes", ())]
    known = [one for one in said.values() if one.get("code") not in ("lost", "interrupted")]
    asked = seen.asked and all(one.get("code") == "internal" for one in known)
    if known and not asked:
        raise _error(known[0], [] if known[0] is first else notes)
    if asked or first.get("code") == "interrupted":
        stopped = KeyboardInterrupt()
        for note in notes:
            stopped.add_note(note)
        raise stopped
    mute = [rank for rank in ranks if rank.code and rank.number not in said]
    gone = next((rank for rank in mute if rank.number not in seen.stopped), mute[0] if mute else ranks[0])
    raise _killed(gone, len(ranks), notes, run)


def _error(said: dict[str, Any], notes: Sequence[str]) -> ZooError:
    error = ZooError(str(said.get("message")), why=said.get("why"), hint=said.get("hint"))
    error.code, error.exit_code = str(said.get("code")), int(said.get("exit_code") or 1)
    error.facts = dict(said.get("facts") or {})
    for note in [*said.get("notes", ()), *notes]:
        error.add_note(str(note))
    return error


def _killed(rank: _Rank, count: int, notes: Sequence[str], run: Path) -> ZooError:
    code = rank.code or 0
    how = f"ended with code {code}"
    if code < 0:
        with contextlib.suppress(ValueError):
            how = f"was killed by {signal.Signals(-code).name}"
    error = TrainingError(
        f"process {rank.number + 1} of {count} {how}, and the others ended with it",
        why="A system that runs out of memory kills processes so." if code == -9 else None,
        hint=f"Go on with: zoo fit --resume -o {run}" if (run / "run.json").is_file() else None,
    )
    for note in [*notes, rank.last_lines()]:
        if note:
            error.add_note(note)
    return error


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Whoever asks this process to end ends the others too, and leaves no files."""

    def leave(number: int, _: object) -> None:
        sys.exit(128 + number)

    try:
        before = signal.signal(signal.SIGTERM, leave)
    except ValueError:  # no main thread: nobody is asked anything there
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
