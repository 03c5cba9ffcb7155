"""Bad input through the command line: what is said, the exit code, and that nothing is left behind."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import zoo
from zoo.errors import DataError

Refused = Callable[..., str]

#: A composition that is learned in a moment.
TINY = ("-b", "tiny", "-w", "none", "-s", "linear-probe")

pytestmark = pytest.mark.usefixtures("tiny_plugin")


def tree(*folders: Path) -> dict[str, str]:
    """Every file and folder with the hash of what it holds.

    Lock files, which are empty, do not count, nor does what was remembered of files that are old enough.
    """
    everything = (path for folder in folders for path in folder.rglob("*"))
    found = (
        path for path in everything if path.suffix != ".lock" and path.name not in ("hashes.json", "samples.sqlite")
    )
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "" for path in found}


@pytest.fixture
def refused(cli, home: Path) -> Refused:
    """Run a command line that must fail; gives what it said. No file may come, go or change."""

    def call(code: int, word: str, *args: Any, says: tuple[str, ...]) -> str:
        before = tree(Path.cwd(), home)
        said = cli(*args)
        assert said.code == code, said.err
        assert f"error[{word}]" in said.err
        assert "Traceback" not in said.err
        assert said.out == ""
        for text in says:
            assert text in said.err
        assert tree(Path.cwd(), home) == before
        return said.err

    return call


@pytest.fixture
def run(cli, photos: Path) -> Path:
    """A saved run that tells blue from red."""
    assert cli("fit", photos, *TINY, "-o", "colours").code == 0
    return Path("colours").absolute()


@pytest.fixture
def tiny_weights(cli, photos: Path, home: Path) -> Path:
    """Published weights of `tiny`, in the user's registry as tiny.colours."""
    options = ("--set", "epochs=1", "-o", "source")
    assert cli("pretrain", photos, "-b", "tiny", "--publish", "tiny.colours", *options).code == 0
    return next((home / "blobs").rglob("*.safetensors"))


class TestFolders:
    def test_no_images(self, refused: Refused, tmp_path: Path) -> None:
        (tmp_path / "empty" / "a").mkdir(parents=True)
        refused(
            7, "data", "fit", tmp_path / "empty", *TINY, says=(str(tmp_path / "empty"), "one folder for each class")
        )

    def test_images_without_class_folders(self, refused: Refused, photos: Path) -> None:
        refused(7, "data", "fit", photos / "red", *TINY, says=("no class folders", "one folder for each class"))

    def test_one_class(self, refused: Refused, photos: Path) -> None:
        (photos / "red").rename(photos / "blue" / "more")
        refused(7, "data", "fit", photos, *TINY, says=("only one class, 'blue'", "at least two classes"))

    def test_an_empty_class(self, refused: Refused, photos: Path) -> None:
        (photos / "green").mkdir()
        refused(7, "data", "fit", photos, *TINY, says=(str(photos / "green"), "Put images", "remove the folder"))

    def test_unreadable_images_are_listed(self, refused: Refused, photos: Path) -> None:
        bad = _spoil(photos)
        said = refused(7, "data", "fit", photos, *TINY, says=("2 of 24 images", *map(str, bad), "--skip-bad"))
        listed = [line for line in said.splitlines() if str(photos) in line]
        assert len(listed) == 2
        assert all(line.startswith("    /") for line in listed)
        said = refused(7, "data", "fit", photos, *TINY, "-q", says=(str(bad[0]),))
        assert said.startswith("error[data]")

    def test_skip_bad_goes_on_and_says_so(self, cli, photos: Path) -> None:
        bad = _spoil(photos)
        said = cli("fit", photos, *TINY, "--skip-bad", "-o", "rest")
        assert said.code == 0, said.err
        assert "2 unreadable images left out" in said.err
        assert all(path.name in said.err for path in bad)
        said = cli("evaluate", "rest", photos, "--skip-bad", "--json")
        assert said.json["n"] == 22
        assert "2 unreadable images left out" in said.err
        said = cli("predict", "rest", photos, "--skip-bad", "--json")
        assert len(said.json) == 22
        assert "2 unreadable images left out" in said.err

    def test_a_class_that_cannot_be_read_at_all(self, refused: Refused, photos: Path) -> None:
        for path in (photos / "red").iterdir():
            path.write_bytes(b"no picture")
        refused(7, "data", "fit", photos, *TINY, "--skip-bad", says=("class 'red'", "Mend its files"))

    def test_no_such_folder(self, refused: Refused, photos: Path) -> None:
        refused(3, "not-found", "fit", photos.parent / "fotos", *TINY, says=("fotos", f"Did you mean {photos}"))


def _spoil(photos: Path) -> list[Path]:
    """Two pictures that cannot be read: one cut short, one that never was one."""
    bad = [photos / "blue" / "03.png", photos / "red" / "05.png"]
    bad[0].write_bytes(bad[0].read_bytes()[:100])
    bad[1].write_text("no picture")
    return bad


class TestLabels:
    def test_labels_that_the_run_does_not_know(self, refused: Refused, run: Path, photos: Path) -> None:
        (photos / "red").rename(photos / "green")
        refused(7, "data", "evaluate", run, photos, says=("label green is out of range", "Known: blue, red"))

    def test_labels_out_of_range(self, refused: Refused, run: Path) -> None:
        refused(7, "data", "evaluate", run, "digits", says=("label 2 is out of range", "0 to 1", "blue, red"))

    def test_targets_of_another_kind(self, refused: Refused, run: Path, photos: Path) -> None:
        manifest = photos / "ages.csv"
        manifest.write_text("path,label\nblue/00.png,0.5\nred/00.png,1.5\n")
        refused(7, "data", "evaluate", run, manifest, says=("regression", "classes", "the same kind"))

    def test_more_labels_a_class_than_there_are(self, refused: Refused, photos: Path) -> None:
        options = ("--labels-per-class", 10000)
        refused(7, "data", "fit", photos, *TINY, *options, says=("10000 labels", "'blue' has 10", "Ask for at most 9"))

    def test_a_split_that_is_not_there(self, refused: Refused, photos: Path) -> None:
        said = ("'nosplit'", "photos has: train", "Give a folder")
        refused(3, "not-found", "fit", photos, *TINY, "--val", "nosplit", says=said)
        refused(2, "usage", "fit", photos, *TINY, "--val", "test", says=("no split 'test'", "It has: train", "Leave"))

    def test_the_rest_without_labels_per_class(self, refused: Refused, run: Path, photos: Path) -> None:
        student = ("-b", "tiny", "-w", "none", "-s", "distillation", "--set", f"teacher={run}", "--target", "rest")
        refused(2, "usage", "fit", photos, *student, says=("no rows without labels", "labels_per_class"))


class TestChannels:
    @pytest.mark.parametrize(
        ("shape", "kind", "says"),
        [
            ((8, 5, 8, 8), np.float32, ["number of channels", "in_chans"]),
            ((8, 8, 8, 5), np.uint8, ["sample 0", "5 channels, but the network takes 3", "in_chans=5"]),
            ((8, 8), np.float32, ["shape (", "does not fit the network", "Give rows of the shape"]),
        ],
    )
    def test_arrays(self, shape: tuple[int, ...], kind: type, says: list[str], run: Path) -> None:
        x = np.random.default_rng(0).uniform(0, 255, shape).astype(kind)
        with pytest.raises(DataError) as caught:
            zoo.compose("tiny", "linear-probe", weights=None).fit((x, [0, 1] * 4))
        assert all(text in str(caught.value) for text in says)
        with pytest.raises(DataError):
            zoo.load(run).predict(x)

    def test_pictures(self, refused: Refused, photos: Path) -> None:
        said = (str(photos / "blue"), "3 channels, but the network takes 7", "in_chans=3")
        refused(7, "data", "fit", photos, *TINY, "--in-chans", 7, says=said)


class TestOutput:
    @pytest.mark.parametrize("verb", ["fit", "pretrain"])
    def test_a_folder_that_exists(self, refused: Refused, photos: Path, verb: str) -> None:
        Path("kept").mkdir()
        Path("kept", "thesis.txt").write_text("years of work")
        how = TINY if verb == "fit" else ("-b", "tiny", "--publish", "tiny.x")
        refused(2, "usage", verb, photos, *how, "-o", "kept", says=("kept exists already", "-o"))

    def test_a_run_that_exists(self, refused: Refused, run: Path, photos: Path) -> None:
        refused(2, "usage", "fit", photos, *TINY, "-o", run, says=(f"{run} exists already", "remove it"))

    def test_a_file_in_the_way(self, refused: Refused, photos: Path) -> None:
        Path("taken").write_text("a file")
        refused(2, "usage", "fit", photos, *TINY, "-o", "taken", says=("taken exists already",))


class TestHeads:
    @pytest.mark.parametrize("strategy", ["linear-probe", "fine-tune", "from-scratch", "distillation"])
    def test_no_such_head(self, refused: Refused, photos: Path, strategy: str) -> None:
        options = ("-b", "tiny", "-s", strategy, "--set", "head=mpl(3)")
        refused(2, "usage", "fit", photos, *options, says=("'mpl(3)'", "mlp(N)"))

    @pytest.mark.parametrize("options", [("--set", "head=mlp(3)"), ("--tap", "layer1")])
    def test_a_head_that_cannot_be_published(self, refused: Refused, photos: Path, options: tuple[str, ...]) -> None:
        how = ("-b", "tiny", "--publish", "tiny.x", *options)
        refused(2, "usage", "pretrain", photos, *how, says=("only a linear head", "head=linear"))

    @pytest.mark.parametrize("name", ["other.x", "tiny", "tiny.", "tiny.a b", "tiny.colours"])
    def test_a_name_that_cannot_be_published(self, cli, refused: Refused, photos, tiny_weights, name: str) -> None:
        said = cli("pretrain", photos, "-b", "tiny", "--publish", name)
        assert said.code == 2
        assert name in said.err
        assert not Path("runs").exists()


class TestTeachers:
    @pytest.fixture
    def teacher(self, cli, photos: Path) -> str:
        """A run that tells blue from green."""
        (photos / "red").rename(photos / "green")
        assert cli("fit", photos, *TINY, "-o", "greens").code == 0
        (photos / "green").rename(photos / "red")
        return "greens"

    def test_other_classes(self, cli, refused: Refused, photos: Path, teacher: str) -> None:
        student = ("-b", "tiny", "-w", "none", "-s", "distillation", "--set", f"teacher={teacher}")
        says = (teacher, "blue, green", "blue, red", "match=features")
        refused(2, "usage", "fit", photos, *student, says=says)
        said = cli("fit", photos, *student, "--set", "match=features", "--set", "epochs=1", "-o", "student")
        assert said.code == 0, said.err
        assert cli("evaluate", "student", photos, "--json").json["n"] == 24

    @pytest.mark.parametrize(
        ("given", "code", "word", "says"),
        [
            ((), 2, "usage", ("needs a teacher", "teacher=RUN_FOLDER")),
            (("--set", "teacher=nowhere"), 3, "not-found", ("'nowhere'", "named as the teacher", "zoo list")),
            (("--set", "teacher=./nowhere"), 3, "not-found", ("no run at ./nowhere", "Give a run's folder")),
            (("--set", "teacher=3"), 2, "usage", ("3 is no teacher", "Give a run")),
        ],
    )
    def test_no_teacher(self, refused: Refused, photos: Path, given, code: int, word: str, says) -> None:
        refused(code, word, "fit", photos, "-b", "tiny", "-w", "none", "-s", "distillation", *given, says=says)


class TestWeights:
    def test_of_another_architecture(self, refused: Refused, tiny_weights: Path) -> None:
        says = ("is not for", "source_cnn", "missing: conv1.weight", "Name the backbone")
        refused(
            5, "integrity", "register", tiny_weights, "--backbone", "source_cnn", "--name", "source_cnn.x", says=says
        )
        how = ("-b", "source_cnn", "-w", tiny_weights, "-s", "linear-probe")
        refused(5, "integrity", "fit", "digits", *how, says=(str(tiny_weights), *says))

    def test_of_other_shapes(self, refused: Refused, photos: Path, tiny_weights: Path, tmp_path: Path) -> None:
        tensors = load_file(tiny_weights)
        tensors["conv.weight"] = np.zeros((16, 3, 3, 3), dtype=np.float32)
        save_file(tensors, wide := tmp_path / "wide.safetensors")
        how = ("-b", "tiny", "-w", wide, "-s", "linear-probe")
        refused(5, "integrity", "fit", photos, *how, says=(str(wide), "conv.weight", "[16, 3, 3, 3]"))

    @pytest.mark.parametrize(
        ("size", "why"), [(0, "empty"), (3, "less than the 8"), (700, "truncated"), (-4, "truncated")]
    )
    def test_a_damaged_file(self, refused: Refused, photos, tiny_weights: Path, tmp_path: Path, size, why) -> None:
        bad = tmp_path / "bad.safetensors"
        bad.write_bytes(tiny_weights.read_bytes()[: size or None] if size else b"")
        says = (str(bad), why, "Fetch the file again")
        refused(5, "integrity", "register", bad, "--backbone", "tiny", "--name", "tiny.bad", says=says)
        refused(5, "integrity", "fit", photos, "-b", "tiny", "-w", bad, "-s", "linear-probe", says=says)

    def test_a_file_that_is_not_there(self, refused: Refused, photos: Path) -> None:
        says = ("nowhere.safetensors", ".safetensors file")
        how = ("-b", "tiny", "-s", "linear-probe", "-w")
        refused(3, "not-found", "fit", photos, *how, "nowhere.safetensors", says=says)
        refused(3, "not-found", "fit", photos, *how, photos, says=("is a folder", ".safetensors file"))
        how = ("--backbone", "tiny", "--name", "tiny.x")
        refused(3, "not-found", "register", "nowhere.safetensors", *how, says=says)

    def test_a_name_of_another_architecture(self, refused: Refused, tiny_weights: Path) -> None:
        how = ("--backbone", "tiny", "--name", "tyni.x")
        refused(2, "usage", "register", tiny_weights, *how, says=("tyni.x", "tiny.TAG"))

    def test_a_name_that_is_taken(self, refused: Refused, tiny_weights: Path) -> None:
        how = ("--backbone", "tiny", "--name", "tiny.colours")
        refused(2, "usage", "register", tiny_weights, *how, says=("'tiny.colours' exist already", "--replace"))


class TestRegistryFiles:
    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ('schema = 1\n[weights."tiny.z"]\nbackbone = "tiny"\nsorce = "file:x"\n', ("line 4", "sorce", "source")),
            ('schema = 1\n[alaises]\na = "tiny"\n', ("line 2", "alaises", "aliases")),
        ],
    )
    @pytest.mark.parametrize("how", ["flag", "user"])
    def test_unknown_keys(self, refused: Refused, home: Path, tmp_path: Path, text: str, says, how: str) -> None:
        file = home / "registry.toml" if how == "user" else tmp_path / "mine.toml"
        file.write_text(text)
        flag = ("--registry", file) if how == "flag" else ()
        refused(2, "registry", *flag, "list", says=(file.name, "Did you mean", *says))
        refused(2, "registry", *flag, "fit", "digits", *TINY, says=(file.name, *says))


class TestTraining:
    def test_a_loss_that_is_not_finite(self, cli) -> None:
        """The last good state stays, as a checkpoint; nothing else does."""
        options = ("--labels-per-class", 4, "--set", "lr=1e30", "--set", "clip=null", "--set", "epochs=2", "-o", "run")
        said = cli("fit", "digits", "-b", "source_cnn", "-s", "from-scratch", *options)
        assert said.code == 7
        for part in ("error[training]", "the loss is", "epoch 0, step", "Rows of the batch", "Lower lr", "last good"):
            assert part in said.err
        assert sorted(path.name for path in Path("run").iterdir()) == ["checkpoints", "history.jsonl", "run.json"]
        assert [path.name for path in Path("run/checkpoints").iterdir()] == ["step-00000001"]

    @pytest.mark.parametrize("option", ["lr=1e999", "lr=fast", "epochs=1.5", "epochs=true", "weight_decay=null"])
    def test_options_of_the_wrong_type(self, refused: Refused, option: str) -> None:
        how = ("-b", "source_cnn", "-s", "fine-tune", "-w", "none", "--set", option)
        refused(2, "usage", "fit", "digits", *how, says=(f"{option.split('=')[0]} must be",))

    def test_an_absent_device(self, refused: Refused, run: Path, photos: Path) -> None:
        says = ("'xpu:9'", "Present: ")
        refused(2, "usage", "fit", photos, *TINY, "--device", "xpu:9", says=says)
        refused(2, "usage", "evaluate", run, photos, "--device", "xpu:9", says=says)
        refused(2, "usage", "predict", run, photos, "--device", "xpu:9", says=says)

    def test_an_unknown_precision(self, refused: Refused, photos: Path) -> None:
        refused(2, "usage", "fit", photos, *TINY, "--precision", "fp8", says=("'fp8'", "bf16"))

    @pytest.mark.parametrize("verb", ["fit", "pretrain"])
    def test_ctrl_c_in_the_middle_of_a_fit(self, photos: Path, tmp_path: Path, home: Path, verb: str) -> None:
        here, mark = tmp_path / "interrupted", tmp_path / "mark"
        here.mkdir()
        (tmp_path / "plugins" / "marks.py").write_text(MARKS.format(mark=str(mark)))
        how = ["-s", "from-scratch"] if verb == "fit" else ["--publish", "tiny.mine"]
        options = ["--set", "epochs=100000", "-o", "run"]
        done = subprocess.Popen(
            [sys.executable, "-m", "zoo", verb, str(photos), "-b", "tiny", *options, *how],
            cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            _wait_for(mark, done)
            os.killpg(done.pid, signal.SIGINT)
            out, err = done.communicate(timeout=30)
        finally:
            done.kill()
        assert done.returncode == 130, err
        assert "error[interrupted]" in err
        assert "Traceback" not in err
        assert out == ""
        assert "--resume -o run" in err, "it says how to go on"
        assert os.listdir(here) == ["run"]
        assert not tree(home)
        record = json.loads((here / "run" / "run.json").read_text())
        assert record["state"] == "running"
        assert len(list((here / "run" / "checkpoints").glob("step-*"))) in (1, 2)


#: A plugin that says when an epoch has ended.
MARKS = """
from pathlib import Path
import zoo

@zoo.hookimpl
def zoo_epoch_end(learner, epoch, metrics):
    Path({mark!r}).touch()
"""


def _wait_for(mark: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while not mark.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


class TestRecords:
    """Files of records: what is said names file, row and column (see tests/data/test_records.py for every fault)."""

    TEXTS = ("-b", "tiny_text", "-w", "none", "-s", "linear-probe")
    ROWS = ("-b", "tiny_rows", "-w", "none", "-s", "linear-probe")

    @pytest.mark.parametrize(
        ("name", "content", "tail", "says"),
        [
            ("t.csv", b"text,label\ngood,1\n\xe9,0\n", TEXTS, ("t.csv is not UTF-8", "in line 3", "iconv")),
            ("t.csv", b"text,label\ngood,1\n ,0\n", TEXTS, ("t.csv, row 3, column text: the text is empty",)),
            ("t.csv", b"text,label\ngood,1\nbad,1\n", TEXTS, ("only one class, '1'",)),
            ("t.jsonl", b'{"text": "a", "label": 1}\n{"text": "b"}\n', TEXTS, ("t.jsonl, line 2: no 'label'",)),
            ("t.jsonl", b'{"text": "a", "label": 1}\n{"text": \n', TEXTS, ("t.jsonl, line 2: not JSON",)),
            ("t.csv", b"age,risk\n3,a\n4,b\n", ROWS, ("t.csv, row 1: no column label", "--label COLUMN")),
            ("t.csv", b"age,risk\n3,a\n4,b\n", (*ROWS, "--label", "rsk"), ("no column rsk", "age, risk")),
            ("t.csv", b"age,job,label\n3,a,a\n4,b,b\n", ROWS, ("column job is a copy of the target label",)),
            ("t.jsonl", b'{"a": 1, "label": 1}\n{"a": "x", "label": 0}\n', ROWS, ("line 2, column a: 'x' is a text",)),
            ("t.csv", b"text,label\na,1\nb,0\n", ROWS, ("holds texts, but the backbone takes rows of a table",)),
            ("t.csv", b"age,label\n3,1\n4,0\n", TINY, ("holds rows of a table, but the backbone takes pictures",)),
        ],
    )
    def test_it_is_refused(self, refused: Refused, tmp_path: Path, name: str, content: bytes, tail: Any, says) -> None:
        (tmp_path / name).write_bytes(content)
        refused(7, "data", "fit", tmp_path / name, *tail, says=says)

    def test_a_column_is_asked_of_what_has_none(self, refused: Refused, photos: Path) -> None:
        refused(2, "usage", "fit", photos, *TINY, "--label", "kind", says=("there is no column 'kind' of the target",))

    def test_empty_texts_are_left_out_on_demand(self, cli, tmp_path: Path) -> None:
        rows = [f"good {i},1\nbad {i},0\n" for i in range(10)]
        (tmp_path / "t.csv").write_text("text,label\n" + "".join(rows) + " ,1\n")
        said = cli("fit", tmp_path / "t.csv", *self.TEXTS, "--skip-bad", "-o", "texts")
        assert said.code == 0, said.err
        assert "1 unreadable texts left out: t.csv, row 22, column text" in said.err

    def test_rows_that_do_not_fit_a_run(self, cli, refused: Refused, tmp_path: Path) -> None:
        rows = [f"{20 + i},{'ab'[i % 2]},{'xy'[i % 2]}{'' if i % 5 else 'z'}\n" for i in range(40)]
        file = tmp_path / "t.csv"
        file.write_text("age,risk,job\n" + "".join(rows))
        assert cli("fit", file, *self.ROWS, "--label", "risk", "-o", "rows").code == 0
        file.write_text("age\n3\n")
        refused(7, "data", "predict", "rows", file, says=("t.csv, row 2", "column 'job' is missing"))
        file.write_text("age,job\nold,x\n")
        refused(7, "data", "predict", "rows", file, says=("t.csv, row 2", "column 'age' holds 'old'"))
        said = refused(7, "data", "predict", "rows", file, file, says=("was given among other things",))
        assert "one table at a time" in said
        file.write_text("age,job\n30,x\n")
        refused(7, "data", "evaluate", "rows", file, says=("t.csv, row 1: no column risk", "--label COLUMN"))
        file.write_text("age,job\n30,new\n,x\n")
        said = cli("predict", "rows", file)
        assert said.code == 0, said.err
        assert "new category 'new'" in said.err
        assert said.out.startswith(f"{file}, row 2: ")
        file.write_text("age,risk,job\n30,a,x\n")  # the target is no column that is not known
        said = cli("predict", "rows", file)
        assert (said.code, "risk" in said.err) == (0, False)


class TestUse:
    def test_a_picture_that_is_not_there(self, refused: Refused, run: Path, photos: Path) -> None:
        refused(3, "not-found", "predict", run, "missing.jpg", says=("missing.jpg", "Give the path of a sample"))
        near = str(photos / "red" / "01.png")
        refused(3, "not-found", "predict", run, near[:-1], says=(near[:-1], f"Did you mean {near}"))

    def test_a_file_that_is_no_picture(self, refused: Refused, run: Path, photos: Path) -> None:
        Path("notanimage.bin").write_text("words")
        says = ("1 of 1 images", "notanimage.bin: not an image", "--skip-bad")
        refused(7, "data", "predict", run, "notanimage.bin", says=says)
        Path("words.txt").write_text("words")
        says = ("words.txt holds texts, but the backbone takes pictures", "zoo list --input text")
        refused(7, "data", "predict", run, "words.txt", says=says)
        refused(7, "data", "predict", run, "notanimage.bin", photos, says=("1 of 25 images", "notanimage.bin"))

    def test_a_folder_without_pictures(self, refused: Refused, run: Path) -> None:
        Path("empty").mkdir()
        refused(7, "data", "predict", run, "empty", says=("no samples in", "Pictures end in"))

    @pytest.mark.parametrize("verb", ["evaluate", "predict"])
    def test_a_run_that_is_not_there(self, refused: Refused, photos: Path, verb: str) -> None:
        refused(3, "not-found", verb, "nowhere", photos, says=("no run at nowhere", "run.json", "zoo fit"))

    @pytest.mark.parametrize("verb", ["evaluate", "predict"])
    @pytest.mark.parametrize(
        ("file", "content", "says"),
        [
            ("run.json", b"{", ("run.json is damaged",)),
            ("run.json", b'{"schema": 99}', ("schema 99", "newer zoo")),
            ("model.safetensors", b"", ("model.safetensors", "empty")),
        ],
    )
    def test_a_damaged_run(self, refused: Refused, run: Path, photos: Path, verb, file: str, content, says) -> None:
        (run / file).write_bytes(content)
        refused(5, "integrity", verb, run, photos, says=says)
