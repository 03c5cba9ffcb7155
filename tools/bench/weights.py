"""Weights one can trust, in figures: ours and, in the same run where that is fair, huggingface_hub's.

python tools/bench/weights.py [--rows modes,kill,again,paths,wait,offline,speed] [--megabytes 1024] [--runs 5]
                              [--kill-points 120]

Everything happens on this machine, against `zoo.testing.FakeHub`. Rows that need strace or unshare say so where these
are missing. No figure is taken of what others do with hostile strings.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.testing.faults import FAULTS
from zoo.testing.hub import FakeHub

REPO, FILE = "timm/tiny.a", "model.safetensors"
ROWS = ("modes", "kill", "again", "paths", "wait", "offline", "speed")
#: Faults that consist of a hostile string: tried on us alone.
HOSTILE = ("bad-commit", "bad-etag", "bad-name", "bad-index")
#: A process that has not ended by then has no answer, in seconds.
LIMIT = 90

OURS = """
import json, sys, time
from zoo.catalog.spec import Weights
from zoo.settings import Settings
from zoo.weights.pull import pull
import zoo.weights.download, huggingface_hub.constants, filelock, tomlkit
weights = Weights(name="tiny.a", backbone="tiny", source="hf://timm/tiny.a@main/model.safetensors")
start = last = time.perf_counter()
gap = 0.0
def heard(*_):
    global gap, last
    now = time.perf_counter()
    gap, last = max(gap, now - last), now
found = {"path": None}
try:
    found["path"] = str(pull(weights, settings=Settings(), progress=heard, note=heard).path)
except Exception as error:
    found["error"] = type(error).__name__
heard()
print(json.dumps({**found, "gap": gap, "seconds": time.perf_counter() - start}))
"""

THEIRS = """
import json, sys, time
from huggingface_hub import constants, hf_hub_download
sleep, asked = time.sleep, []
def recorded(seconds):
    asked.append(seconds)
    if seconds > 60:
        raise SystemExit(json.dumps({"path": None, "gap": max(asked), "seconds": None}))
    sleep(seconds)
time.sleep = recorded
start = time.perf_counter()
found = {"path": None}
try:
    found["path"] = hf_hub_download("timm/tiny.a", "model.safetensors")
except SystemExit as error:
    print(error.code)
    raise SystemExit(0)
except Exception as error:
    found["error"] = type(error).__name__
seconds = time.perf_counter() - start
print(json.dumps({**found, "gap": max(asked, default=0), "seconds": seconds}))
"""


@dataclass
class Side:
    """One of the two that are compared."""

    name: str
    code: str

    def environment(self, home: Path, endpoint: str | None) -> dict[str, str]:
        """Settings of a process whose files are all under `home`."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ZOO_", "HF_"))}
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
            kept.pop(name, None)
        more = {"ZOO_HOME": str(home / "zoo"), "HF_HOME": str(home / "hf"), "OMP_NUM_THREADS": "1"}
        more |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        return {**kept, **more, **({"HF_ENDPOINT": endpoint} if endpoint else {})}

    def start(self, home: Path, endpoint: str | None, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """Start one download."""
        return subprocess.Popen(
            [*before, sys.executable, "-W", "ignore", "-c", self.code],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment(home, endpoint),
            cwd=home, start_new_session=True,
        )  # fmt: skip

    def run(self, home: Path, endpoint: str | None, before: tuple[str, ...] = ()) -> dict[str, Any]:
        """One download: its path or error, longest silence (ours) or sleep (theirs), seconds, and exit status."""
        process = self.start(home, endpoint, before)
        try:
            out, err = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return {"path": None, "error": f"no answer in {LIMIT} s", "gap": LIMIT, "seconds": LIMIT, "status": None}
        lines = out.strip().splitlines()
        found = json.loads(lines[-1]) if lines else {"path": None, "error": err.strip()[-200:]}
        return {**found, "status": process.returncode}

    def visible(self, home: Path) -> dict[Path, str]:
        """Files that stand for a hash, and that hash."""
        if self is ZOO:
            return {path: path.stem for path in home.glob("zoo/blobs/sha256/*/*")}
        blobs = home.glob("hf/hub/models--*/blobs/*")
        return {path: path.name for path in blobs if re.fullmatch("[0-9a-f]{64}", path.name)}


ZOO, HUB = Side("zoo", OURS), Side("huggingface_hub", THEIRS)


def safetensors(size: int) -> bytes:
    """A sound file of about `size` bytes."""
    header = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    header += b" " * (-len(header) % 8)
    piece = hashlib.shake_256(b"zoo").digest(min(size, 1 << 20))
    return struct.pack("<Q", len(header)) + header + (piece * (size // len(piece) + 1))[:size]


def modes(_: argparse.Namespace) -> list[str]:
    """Every fault of the fake Hub, a fresh home each."""
    content = safetensors(300_000)

    def one(case: tuple[Side, str]) -> tuple[Side, str, str]:
        side, fault = case
        with tempfile.TemporaryDirectory() as folder, FakeHub() as hub:
            hub.add(REPO, FILE, content)
            hub.fault, hub.redirect_to, hub.rate = fault, "http://127.0.0.2:9/x", 1_000_000
            found = side.run(Path(folder), hub.url)
            if found["path"] is not None:
                return side, fault, "right" if Path(found["path"]).read_bytes() == content else "WRONG"
            return side, fault, found.get("error") or "waits"

    cases = [(side, fault) for fault in FAULTS for side in (ZOO, HUB) if side is ZOO or fault not in HOSTILE]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(one, cases))
    for fault in FAULTS:
        said = {side.name: end for side, other, end in found if other == fault}
        print(
            f"  {fault:16} zoo: {said['zoo']:24} huggingface_hub: {said.get('huggingface_hub', '-')}", file=sys.stderr
        )
    cells = []
    for side in (ZOO, HUB):
        ends = [end for other, _, end in found if other is side]
        cells.append(f"{ends.count('WRONG')} of {len(ends)}")
    return ["wrong bytes accepted, by mode of the server", "0", *cells]


CALLS = "write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,mkdir,ftruncate,flock,symlink,link"


def kill(arguments: argparse.Namespace) -> list[str]:
    """SIGKILL as the N-th system call of a kind is entered, spread over all that an undisturbed download makes."""
    what = "kill points: with a wrong file / files left after the next pull"
    if shutil.which("strace") is None:
        return [what, "0 / 0 of >= 100", "no strace here", "no strace here"]
    content = safetensors(100_000_000)  # which the zoo writes in more than 100 pieces
    return [what, "0 / 0 of >= 100", *(_kill(side, content, arguments.kill_points) for side in (ZOO, HUB))]


def _kill(side: Side, content: bytes, most: int) -> str:
    points, wrong, left, failed = 0, 0, 0, 0
    with FakeHub() as hub:
        hub.add(REPO, FILE, content)
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            trace = Path(folder).with_suffix(".trace")
            side.run(home, hub.url, ("strace", "-f", "-o", str(trace), "-e", f"trace={CALLS}"))
            clean = _files(home)
            calls = re.findall(r"^\d+ +(\w+)\(", trace.read_text(errors="replace"), re.MULTILINE)
            trace.unlink()
        every = [(call, calls[: i + 1].count(call)) for i, call in enumerate(calls)]
        # Each point of a small number of calls, else evenly spread ones.
        chosen = [every[i * len(every) // min(most, len(every))] for i in range(min(most, len(every)))]
        for call, number in chosen:
            with tempfile.TemporaryDirectory() as folder:
                home = Path(folder)
                inject = f"inject={call}:signal=KILL:when={number}"
                traced = ("strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject)
                died = side.run(home, hub.url, traced)["status"]
                if died not in (-signal.SIGKILL, 128 + signal.SIGKILL):
                    continue  # threads take turns: this one had fewer calls
                points += 1
                wrong += any(
                    hashlib.sha256(path.read_bytes()).hexdigest() != sha for path, sha in side.visible(home).items()
                )
                failed += side.run(home, hub.url)["path"] is None
                more = _files(home) - clean
                left += bool(more)
                if more:
                    print(f"  {side.name}, {call} {number}: left {sorted(more)[:3]}", file=sys.stderr)
    return f"{wrong} / {left} of {points}" + (f" ({failed} next pulls failed)" if failed else "")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _files(home: Path) -> set[str]:
    # Names that are drawn anew each time count as one.
    names = (str(path.relative_to(home)) for path in home.rglob("*") if path.is_file() or path.is_symlink())
    return {re.sub(r"[0-9a-f]{8,12}\.incomplete", "X.incomplete", name) for name in names}


def again(_: argparse.Namespace) -> list[str]:
    """Killed when 90 % has been sent; what the next pull asks for."""
    content = safetensors(64_000_000)
    cells = []
    for side in (ZOO, HUB):
        with tempfile.TemporaryDirectory() as folder, FakeHub() as hub:
            hub.add(REPO, FILE, content)
            hub.fault, hub.rate = "slow", 24_000_000
            process = side.start(Path(folder), hub.url)
            while hub.sent < 0.9 * len(content) and process.poll() is None:
                time.sleep(0.005)
            process.kill()
            process.communicate()
            hub.fault = None
            time.sleep(0.2)
            hub.forget()
            found = side.run(Path(folder), hub.url)
            sound = found["path"] is not None and Path(found["path"]).read_bytes() == content
            cells.append(f"{100 * hub.sent / len(content):.0f} %" + ("" if sound else ", and failed"))
    return ["bytes fetched again after a kill at 90 %", "<= 15 %", *cells]


def paths(_: argparse.Namespace) -> list[str]:
    """Every hostile string in every field that a server fills, over the wire; Python's own audit sees each write."""
    from zoo.catalog.spec import Weights
    from zoo.errors import ZooError
    from zoo.settings import Settings
    from zoo.testing.hostile import strings, watched
    from zoo.weights import download
    from zoo.weights.pull import pull
    from zoo.weights.store import Store
    from zoo.weights.transport import Patience

    download.Patience = lambda: Patience(attempts=1)  # type: ignore[assignment,misc]
    content, tried = safetensors(20_000), 0
    fields = ("bad-commit", "bad-etag", "bad-name", "redirect", "redirect-head")
    with tempfile.TemporaryDirectory() as folder, FakeHub() as hub:
        settings = Settings(home=Path(folder) / "home", offline=False)
        settings.home.mkdir()
        os.chdir(settings.home)  # where no project has a lock file of its own
        os.environ["HF_ENDPOINT"] = hub.url
        hub.add(REPO, FILE, content)
        weights = Weights(name="tiny.a", backbone="tiny", source=f"hf://{REPO}@main/{FILE}")
        with watched(settings.home) as escaped:
            for hub.fault in fields:
                for hub.hostile in strings():
                    hub.redirect_to = hub.hostile
                    tried += 1
                    try:
                        Store(settings).remove(pull(weights, settings=settings, update=True).sha256)
                    except ZooError:
                        continue
        del os.environ["HF_ENDPOINT"]
        os.chdir("/")
    for path in sorted(set(escaped))[:5]:
        print(f"  outside the home: {path}", file=sys.stderr)
    return ["paths escaped, hostile strings in each field", "0", f"{len(escaped)} of {tried}", "(no figure)"]


def wait(_: argparse.Namespace) -> list[str]:
    """Silent servers, and one that asks for an hour. Ours: the longest time without a word; theirs: a longest sleep."""

    def one(case: tuple[Side, str]) -> float:
        side, fault = case
        with tempfile.TemporaryDirectory() as folder, FakeHub() as hub:
            hub.add(REPO, FILE, safetensors(300_000))
            hub.fault, hub.retry_after, hub.silence = fault.partition(" ")[0], int(fault.partition(" ")[2] or 0), 80
            found = side.run(Path(folder), hub.url)
            print(f"  {side.name}, {fault}: {found}", file=sys.stderr)
            return float(found["gap"])

    cases = ["busy 3600", "busy 20", "stall", "hang", "drip", "wrong-length", "broken"]
    with ThreadPoolExecutor(4) as pool:
        ours = max(pool.map(one, [(ZOO, case) for case in cases]))
        theirs = max(pool.map(one, [(HUB, case) for case in cases if case not in ("drip",)]))
    return ["longest silent or uncapped wait", "<= 10 s", f"{ours:.1f} s", f"{theirs:,.0f} s"]


def offline(_: argparse.Namespace) -> list[str]:
    """No network at all, and nobody said so."""
    what = "failure without a network: the call (the whole process)"
    alone = ("unshare", "-rn")
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], check=False, capture_output=True).returncode:
        return [what, "< 1 s", "no unshare here", "no unshare here"]
    cells = []
    for side in (ZOO, HUB):
        spent = []
        for _ in range(3 if side is ZOO else 1):
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                found = side.run(Path(folder), None, alone)
                assert found["path"] is None, found
                spent.append((found["seconds"], time.perf_counter() - start))
        call, process = (statistics.median(values) for values in zip(*spent, strict=True))
        cells.append(f"{call:.2f} s ({process:.2f} s)")
    return [what, "< 1 s", *cells]


SERVER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from weights import FILE, REPO, safetensors
from zoo.testing.hub import FakeHub
with FakeHub() as hub:
    hub.add(REPO, FILE, safetensors(int(sys.argv[2]) * 10**6))
    print(hub.url, flush=True)
    sys.stdin.read()
"""


def speed(arguments: argparse.Namespace) -> list[str]:
    """One large file from a server in a process of its own, in turns; imports are not counted."""
    times: dict[str, list[float]] = {ZOO.name: [], HUB.name: [], "read and forget": []}
    command = [sys.executable, "-c", SERVER, str(Path(__file__).parent), str(arguments.megabytes)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        for turn in range(arguments.runs + 1):
            for side in (ZOO, HUB):
                with tempfile.TemporaryDirectory() as folder:
                    found = side.run(Path(folder), url)
                    assert found["path"] is not None, found
                    if turn:  # the first turn warms up
                        times[side.name].append(found["seconds"])
                os.sync()
            start = time.perf_counter()
            _read(f"{url}/{REPO}/resolve/main/{FILE}")
            if turn:
                times["read and forget"].append(time.perf_counter() - start)
        server.stdin.close()
    for name, values in times.items():
        print(f"  {name}: median {statistics.median(values):.2f} s of {[round(v, 2) for v in values]}", file=sys.stderr)
    ratio = statistics.median(times[ZOO.name]) / statistics.median(times[HUB.name])
    what = f"pull of {arguments.megabytes} MB from loopback, hashed and synced, against neither"
    ours, theirs = (f"{statistics.median(times[side.name]):.2f} s" for side in (ZOO, HUB))
    return [what, "<= 1.3x", f"{ratio:.2f}x ({ours})", f"1 ({theirs})"]


def _read(url: str) -> None:
    import urllib.request

    buffer = bytearray(1 << 20)
    with urllib.request.urlopen(url) as reply:
        while reply.readinto(buffer):
            pass


def main() -> None:
    """Print the table; what each case did goes to stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--kill-points", type=int, default=120)
    arguments = parser.parse_args()
    import huggingface_hub

    programs: dict[str, Callable[[argparse.Namespace], list[str]]] = {
        "modes": modes, "kill": kill, "again": again, "paths": paths, "wait": wait, "offline": offline, "speed": speed,
    }  # fmt: skip
    rows = [programs[name](arguments) for name in arguments.rows.split(",")]
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print(f"| figure | hold | zoo | huggingface_hub {huggingface_hub.__version__} |")
    print("|---|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
