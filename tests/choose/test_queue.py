"""A queue in a folder: every item is done, once, whoever dies and when; a ranking that is shared is the ranking."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from zoo.choose import queue, rank
from zoo.choose.queue import open_queue, publish_once
from zoo.choose.sharing import join
from zoo.errors import DownloadError, IntegrityError, UsageError

HERE = Path(__file__).parent
#: What two processes cannot have in common.
OWN = ("seconds", "images_per_second")


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("BEAT_S", 0.02), ("STALE_S", 0.2), ("LOOK_S", 0.03)):
        monkeypatch.setattr(queue, name, value)


def work(folder: Path, do: Callable[[str], dict[str, Any]], items: str = "abcd", number: int = 0) -> list[Any]:
    made, _ = open_queue(folder, {"what": "letters"})
    return [result["value"] for result in made.work(number, list(items), do)]


@pytest.mark.skipif(os.name != "posix", reason="needs fork")
def test_workers_that_die_anywhere(tmp_path: Path) -> None:
    command = [sys.executable, str(HERE / "killing_workers.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["wrong"] == [], done.stderr
    assert said["deaths"] > 40


def test_many_at_once_do_everything_once(tmp_path: Path) -> None:
    seen: list[str] = []

    def do(item: str) -> dict[str, Any]:
        seen.append(item)
        time.sleep(0.01)
        return {"value": item.upper()}

    found: list[list[Any]] = []
    letters = "abcdefghijklmnop"
    threads = [threading.Thread(target=lambda: found.append(work(tmp_path / "q", do, letters))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [list(letters.upper())] * 5
    assert sorted(seen) == list(letters)


def test_a_slow_worker_keeps_its_claim(tmp_path: Path) -> None:
    seen: list[str] = []

    def slow(item: str) -> dict[str, Any]:
        seen.append(item)
        time.sleep(3 * queue.STALE_S)
        return {"value": item}

    first = threading.Thread(target=work, args=(tmp_path / "q", slow, "a"))
    first.start()
    time.sleep(0.05)
    assert work(tmp_path / "q", slow, "a") == ["a"]
    first.join()
    assert seen == ["a"]


def test_who_comes_back_too_late_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "BEAT_S", 100.0)  # as of a process that was stopped, and goes on later
    release = threading.Event()

    def stopped(item: str) -> dict[str, Any]:
        release.wait(10)
        return {"value": "late"}

    first = threading.Thread(target=work, args=(tmp_path / "q", stopped, "a"))
    first.start()
    while not list((tmp_path / "q").glob("round-0/claimed/*")):
        time.sleep(0.01)
    assert work(tmp_path / "q", lambda _: {"value": "in time"}, "a") == ["in time"]
    release.set()
    first.join()
    assert work(tmp_path / "q", stopped, "a") == ["in time"]
    assert [path.name for path in (tmp_path / "q" / "round-0" / "done").iterdir()] == ["0000.json"]


def test_what_fails_is_given_back(tmp_path: Path) -> None:
    def fail(_: str) -> dict[str, Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work(tmp_path / "q", fail)
    assert sorted(path.name for path in (tmp_path / "q" / "round-0" / "todo").iterdir()) == [
        f"{i:04}" for i in range(4)
    ]
    assert work(tmp_path / "q", lambda item: {"value": item}) == list("abcd")


def test_what_one_cannot_do_another_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "LEFT_LOOKS", 10_000)
    tried: list[str] = []
    begun = threading.Event()

    def cannot(item: str) -> dict[str, Any] | None:
        tried.append(item)
        begun.set()
        return None if item == "b" else {"value": item}

    def can(item: str) -> dict[str, Any]:
        return {"value": f"{item} after all"}

    made, _ = open_queue(tmp_path / "q", {})
    found: list[Any] = []
    one = threading.Thread(target=lambda: found.extend(made.work(0, ["b"], cannot)))
    one.start()
    assert begun.wait(10)
    other, _ = open_queue(tmp_path / "q", {})
    assert other.work(0, ["b"], can) == [{"by": other.worker, "value": "b after all"}]
    one.join()
    assert found == [{"by": other.worker, "value": "b after all"}]
    assert tried == ["b"]


def test_what_nobody_can_do_is_lacking_until_somebody_tries_again(tmp_path: Path) -> None:
    made, _ = open_queue(tmp_path / "q", {})
    lacking = {"by": made.worker, "lacking": True}
    results = made.work(0, ["a", "b"], lambda item: None if item == "b" else {"value": item})
    assert results == [{"by": made.worker, "value": "a"}, lacking]
    later, _ = open_queue(tmp_path / "q", {})
    assert later.work(0, ["a", "b"], lambda item: {"value": item * 2}) == results  # a round that others rest on
    assert later.work(0, ["a", "b"], lambda _: None, again=True)[1] == {**lacking, "by": later.worker}
    found = later.work(0, ["a", "b"], lambda item: {"value": item * 2}, again=True)
    assert [result["value"] for result in found] == ["a", "bb"]
    assert not list((tmp_path / "q" / "round-0" / "todo").iterdir())


def test_a_place_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    for folder in (tmp_path, tmp_path / "mine"):
        with pytest.raises(UsageError, match="no queue"):
            open_queue(folder, {})
    (tmp_path / "empty").mkdir()
    open_queue(tmp_path / "empty", {})
    (tmp_path / "empty" / "queue.json").write_text("{")
    with pytest.raises(IntegrityError, match="damaged"):
        open_queue(tmp_path / "empty", {})
    (tmp_path / "empty" / "queue.json").write_text('{"schema": 2}')
    with pytest.raises(IntegrityError, match="schema 2"):
        open_queue(tmp_path / "empty", {})


@pytest.mark.parametrize("links", [True, False])
def test_the_first_result_stays(tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not links:  # as on a disk that has none

        def refuse(*_: Any) -> None:
            raise PermissionError(1, "no links")

        monkeypatch.setattr(os, "link", refuse)
    assert publish_once(tmp_path / "r.json", b"1")
    assert not publish_once(tmp_path / "r.json", b"2")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"1"]


class TestRank:
    @pytest.fixture
    def data(self, published: Callable[[str, float], None], tmp_path: Path) -> Path:
        for tag, factor in (("good", 1.0), ("twin", 1.0), ("blind", 0.0)):
            published(tag, factor)
        random = np.random.default_rng(0)
        level = random.uniform(0, 1, 120)  # numbers, because ridge regression is the quickest probe
        pictures = random.normal(80, 30, (120, 8, 8, 3)) + 80 * level[:, None, None, None]
        np.savez(tmp_path / "data.npz", x=np.clip(pictures, 0, 255).astype(np.uint8), y=level)
        return tmp_path / "data.npz"

    def rows(self, ranking: Any) -> list[dict[str, Any]]:
        rows = ranking.as_json() if hasattr(ranking, "as_json") else ranking
        return [{key: value for key, value in row.items() if key not in OWN} for row in rows]

    def claimed(self, folder: Path) -> list[str]:
        """What somebody is at."""
        found = []
        for path in folder.glob("round-0/claimed/*"):
            with contextlib.suppress(FileNotFoundError):
                found.append(path.read_text())
        return found

    def test_it_is_the_ranking_of_one_process(self, data: Path, tmp_path: Path) -> None:
        """One process is killed in the middle of a candidate; two others end what it began."""
        alone = zoo.rank("tiny.*", data)
        command = [sys.executable, str(HERE / "sharing_worker.py"), str(data), str(tmp_path / "q")]
        with subprocess.Popen([*command, "tiny.twin"]) as stuck:
            try:
                while "tiny.twin" not in self.claimed(tmp_path / "q"):
                    assert stuck.poll() is None
                    time.sleep(0.05)
            finally:
                stuck.kill()
        assert stuck.returncode == -signal.SIGKILL
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
            mine = zoo.rank("tiny.*", data, queue=tmp_path / "q")
            said, _ = other.communicate()
        assert self.rows(mine) == self.rows(json.loads(said)) == self.rows(alone)
        assert mine.as_json() == json.loads(said)  # the very same results
        results = [json.loads(path.read_text()) for path in (tmp_path / "q" / "round-0" / "done").iterdir()]
        assert sorted(result["row"]["weights"] for result in results) == ["tiny.blind", "tiny.good", "tiny.twin"]

    def test_rounds_are_shared_too(self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from zoo.choose import compare

        monkeypatch.setattr(compare, "FIRST", 40)
        alone = zoo.rank("tiny.*", data, halving=True)
        found: list[Any] = []
        thread = threading.Thread(
            target=lambda: found.append(zoo.rank("tiny.*", data, halving=True, queue=tmp_path / "q"))
        )
        thread.start()
        found.append(zoo.rank("tiny.*", data, halving=True, queue=tmp_path / "q"))
        thread.join()
        assert (tmp_path / "q" / "round-1" / "done").is_dir()
        assert [self.rows(one) for one in found] == [self.rows(alone)] * 2

    def test_what_was_not_had_is_tried_again(self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        attempt = rank._Trier.attempt

        def offline(self: Any, candidate: Any, part: Any) -> Any:
            if candidate.weights.name == "tiny.twin":
                raise DownloadError("no network")
            return attempt(self, candidate, part)

        with monkeypatch.context() as patched:
            patched.setattr(rank._Trier, "attempt", offline)
            first = zoo.rank("tiny.*", data, queue=tmp_path / "q")
        assert {row.weights for row in first} == {"tiny.good", "tiny.blind"}
        assert "tiny.twin is left out: no network" in first.notes
        second = zoo.rank("tiny.*", data, queue=tmp_path / "q")
        assert self.rows(second) == self.rows(zoo.rank("tiny.*", data))
        assert not any("left out" in note for note in second.notes)

    def test_other_arguments_are_refused(self, data: Path, tmp_path: Path) -> None:
        folder = tmp_path / "q"
        zoo.rank("tiny.*", data, queue=folder)
        with pytest.raises(UsageError, match="--seed: 0 there, 1 now"):
            zoo.rank("tiny.*", data, queue=folder, seed=1)
        with pytest.raises(UsageError, match="--folds: 5 there, 4 now"):
            zoo.rank("tiny.*", data, queue=folder, folds=4)
        with pytest.raises(UsageError, match=r"-b: .*tiny.twin.* there, tiny.good now"):
            zoo.rank("tiny.good", data, queue=folder)
        with pytest.raises(UsageError, match="DATA"):
            zoo.rank("tiny.*", "digits", queue=folder)
        again = zoo.rank("tiny.*", data, queue=folder)  # what is done is only read
        assert len(again) == 3

    def test_other_groups_are_refused(self, tmp_path: Path) -> None:
        begun = {"data": "d", "folds": 5, "seed": 0, "group_by": None, "halving": None, "precision": "fp32", "zoo": "1"}
        open_queue(tmp_path / "q", {**begun, "asked": ["tiny.*"], "candidates": []})
        nobody: Any = None
        with pytest.raises(UsageError, match="--group-by: None there, 'speaker' now"):
            join(tmp_path / "q", [], [], {**begun, "group_by": "speaker"}, nobody, nobody)

    def test_the_verb(self, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        from zoo.cli.app import run

        command = ["rank", str(data), "-b", "tiny.*", "--queue", str(tmp_path / "q"), "--json"]
        assert run(command) == 0
        first = json.loads(capsys.readouterr().out)
        assert run(command) == 0
        assert json.loads(capsys.readouterr().out) == first
        assert run([*command, "--seed", "3"]) == 2
