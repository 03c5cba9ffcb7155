"""A run on the Hub: what goes, what never goes, and what is left when something fails midway."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from huggingface_hub import HfApi, constants, snapshot_download

import zoo
from zoo.catalog.registry import reset_default
from zoo.cli.app import run as zoo_command
from zoo.errors import DownloadError, IntegrityError, NotFoundError, UsageError
from zoo.report.card import model_card
from zoo.report.push import push, without_paths
from zoo.testing import FakeHub
from zoo.testing.hub_server import Handler
from zoo.testing.offline import no_network

# What huggingface_hub says to its own HTTP client.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

FILES = ["README.md", "history.jsonl", "model.safetensors", "run.json"]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub() as server:
        server.token = "hf_secret"
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", server.token)
        monkeypatch.setenv("ZOO_OFFLINE", "0")
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield server


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on class folders, with a checkpoint and a report beside it."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("secret-place")
    random = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (folder / "photos" / name).mkdir(parents=True)
        for i in range(6):
            pixels = random.integers(0, 255, (28, 28, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / name / f"{i}.png")
    learner = zoo.compose("source_cnn", "from-scratch", epochs=1, accelerator="cpu")
    learner.fit(str(folder / "photos"), resume=folder / "run")
    learner.notes.append(f"seen at {folder}/photos/ant/0.png, twice")
    learner.save(folder / "run")
    (folder / "run" / "checkpoints").mkdir(exist_ok=True)
    (folder / "run" / "checkpoints" / "last.safetensors").write_bytes(b"weights of yesterday")
    (folder / "run" / "report.html").write_text("a patient's picture")
    return folder / "run"


def front_matter(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.split("---\n")[1])


def test_what_goes(hub: FakeHub, made: Path, tmp_path: Path) -> None:
    done = push(made, "me/ants")
    files = hub.files("me/ants") or {}
    assert sorted(files) == [".gitattributes", *FILES]
    assert [file.path for file in done.files] == FILES
    assert all(len(files[file.path]) == file.bytes for file in done.files)
    assert (done.revision, done.private, done.url) == (hub.commit("me/ants"), True, f"{hub.url}/me/ants")
    assert hub.private("me/ants")
    everything = b"".join(content for name, content in files.items() if name != "model.safetensors")
    assert b"secret-place" not in everything
    assert b"secret-place" not in files["model.safetensors"]
    record = json.loads(files["run.json"])
    assert (record["call"]["data"], record["data"]["name"]) == ("photos", "photos")
    assert record["notes"][-1] == "seen at 0.png, twice"
    assert 'zoo.load("hf://me/ants")' in files["README.md"].decode()
    # Another person's run: what lies there loads, and answers as the one here does.
    place = snapshot_download("me/ants", endpoint=hub.url, token=hub.token, cache_dir=tmp_path)
    x = np.random.default_rng(1).random((3, 3, 28, 28), dtype=np.float32)
    np.testing.assert_array_equal(zoo.load(place).predict_proba(x), zoo.load(made).predict_proba(x))


def test_again_and_public(hub: FakeHub, made: Path) -> None:
    first = push(made, "me/ants")
    assert push(made, "me/ants").revision != first.revision  # the Hub keeps both
    assert push(made, "me/all", private=False).private is False
    assert not hub.private("me/all")
    before = hub.commit("me/all")
    with pytest.raises(UsageError, match="everybody can see it"):
        push(made, "me/all")
    assert hub.commit("me/all") == before
    assert push(made, "me/all", private=False).revision != before


def test_a_repository_of_something_else(hub: FakeHub, made: Path) -> None:
    hub.make("me/poems", private=True)
    hub.add("me/poems", "README.md", b"poems")
    with pytest.raises(UsageError, match="holds no run"):
        push(made, "me/poems")
    assert (hub.files("me/poems") or {})["README.md"] == b"poems"
    push(made, "me/poems", replace=True)
    assert "run.json" in (hub.files("me/poems") or {})


def test_a_dry_run_sends_nothing(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with no_network() as asked:
        done = push(made, "me/ants", dry_run=True)
    assert (asked, done.revision) == ([], None)
    assert [file.path for file in done.files] == FILES


def test_of_a_learner(hub: FakeHub) -> None:
    x = np.random.default_rng(0).random((12, 3, 28, 28), dtype=np.float32)
    learner = zoo.compose("source_cnn", "knn", weights=None).fit((x, ["a", "b"] * 6))
    done = learner.push_to_hub("me/knn")
    assert done.revision == hub.commit("me/knn")


class TestLoad:
    X = np.random.default_rng(1).random((3, 3, 28, 28), dtype=np.float32)

    def test_it_is_the_run(self, hub: FakeHub, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        commit = push(made, "me/ants").revision
        expected = zoo.load(made).predict_proba(self.X)
        np.testing.assert_array_equal(zoo.load("hf://me/ants").predict_proba(self.X), expected)
        hub.forget()
        zoo.load("hf://me/ants")
        assert [seen.method for seen in hub.requests] == ["HEAD"]  # where is main?
        hub.forget()
        zoo.load(f"hf://me/ants@{commit}")
        monkeypatch.setenv("ZOO_OFFLINE", "1")
        reset_default()
        np.testing.assert_array_equal(zoo.load("hf://me/ants").predict_proba(self.X), expected)
        with pytest.raises(NotFoundError, match="offline"):
            zoo.load("hf://me/other")
        assert hub.count() == 0

    def test_what_is_there_now(self, hub: FakeHub, made: Path) -> None:
        first = push(made, "me/ants").revision
        zoo.load("hf://me/ants")
        record = json.loads((hub.files("me/ants") or {})["run.json"])
        hub.add("me/ants", "run.json", json.dumps({**record, "notes": ["newer"]}).encode())
        assert zoo.load("hf://me/ants").notes == ["newer"]
        assert zoo.load(f"hf://me/ants@{first}").notes != ["newer"]
        hub.fault = "refuse"
        assert zoo.load(f"hf://me/ants@{first}").notes != ["newer"]

    @pytest.mark.parametrize("fault", ["flip", "truncate", "short", "html", "empty"])
    def test_other_bytes_are_refused(self, fault: str, hub: FakeHub, made: Path, home: Path) -> None:
        push(made, "me/ants")
        hub.fault, hub.silence = fault, 0.1
        with pytest.raises((IntegrityError, DownloadError)):
            zoo.load("hf://me/ants")
        assert not list(home.glob("runs/*/*/" + "?" * 40))
        hub.fault = None
        zoo.load("hf://me/ants")

    @pytest.mark.parametrize("lfs_from", [0, 50_000])  # the Hub states a sha256 of run.json; its name in git
    def test_a_record_of_other_bytes_is_refused(
        self, lfs_from: int, hub: FakeHub, made: Path, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hub, "lfs_from", lfs_from)
        commit = push(made, "me/ants").revision
        sent = (hub.files("me/ants") or {})["run.json"]
        assert len(sent) < 50_000 < (made / "model.safetensors").stat().st_size
        other = sent.replace(b'"seed": 0', b'"seed": 7')
        assert (len(other), other == sent) == (len(sent), False)
        monkeypatch.setattr(Handler, "bytes_of", lambda self, file: other if file.content == sent else file.content)
        for run in ("hf://me/ants", f"hf://me/ants@{commit}"):
            with pytest.raises(IntegrityError, match="is not what the Hub says"):
                zoo.load(run)
        assert not list(home.glob("runs/*/*/" + "?" * 40))

    def test_names_that_look_alike(self, hub: FakeHub, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        push(made, "me/ants")
        files = hub.files("me/ants") or {}
        record = json.loads(files["run.json"])
        for repo in ("a--b/c", "a/b--c"):
            hub.change(repo, {**files, "run.json": json.dumps({**record, "notes": [repo]}).encode()})
            assert zoo.load(f"hf://{repo}").notes == [repo]
        monkeypatch.setenv("ZOO_OFFLINE", "1")
        reset_default()
        assert [zoo.load(f"hf://{repo}").notes for repo in ("a--b/c", "a/b--c")] == [["a--b/c"], ["a/b--c"]]

    @pytest.mark.parametrize("run", ["hf://me", "hf://me/ants/more", "hf://../ants", "hf://me/a@b@c", "hf://me/.."])
    def test_what_is_no_run_of_the_hub(self, run: str, hub: FakeHub) -> None:
        with pytest.raises(UsageError):
            zoo.load(run)
        assert hub.count() == 0

    def test_a_repository_without_a_run(self, hub: FakeHub, home: Path) -> None:
        hub.add("me/poems", "README.md", b"poems")
        with pytest.raises(NotFoundError):
            zoo.load("hf://me/poems")
        hub.add("me/poems", "run.json", b"{}")
        with pytest.raises((IntegrityError, NotFoundError)):
            zoo.load("hf://me/poems")
        assert not list(home.glob("runs/*/*/" + "?" * 40))

    def test_a_private_one(self, hub: FakeHub, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        push(made, "me/ants")
        monkeypatch.setenv("HF_TOKEN", "hf_other")
        with pytest.raises(NotFoundError):
            zoo.load("hf://me/ants")

    def test_the_verb(self, hub: FakeHub, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
        push(made, "me/ants")
        picture = str(made.parent / "photos" / "ant" / "0.png")
        assert zoo_command(["predict", "hf://me/ants", picture, "--json"]) == 0
        there = json.loads(capsys.readouterr().out)
        page = made.parent / "hub.html"
        assert zoo_command(["report", "hf://me/ants"]) == 2  # where to?
        assert "-o OUT.html" in capsys.readouterr().err
        assert zoo_command(["report", "hf://me/ants", "-o", str(page), "--map", "none", "--explain", "0"]) == 0
        assert "source_cnn" in page.read_text(encoding="utf-8")
        capsys.readouterr()
        assert zoo_command(["predict", str(made), picture, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == there


@pytest.mark.parametrize(
    ("fault", "left"),
    [
        ("unauthorized", None),
        ("forbidden", None),
        ("broken", None),
        ("refuse", None),
        ("taken", None),
        ("no-space", "is empty"),
        ("broken-commit", "is empty"),
        ("overtaken", "is empty"),
    ],
)
def test_a_failure_leaves_all_or_nothing(fault: str, left: str | None, hub: FakeHub, made: Path) -> None:
    hub.fault = fault
    with pytest.raises(DownloadError) as caught:
        push(made, "me/ants")
    assert "hf_secret" not in str(caught.value)
    assert (left or "as it was") in str(caught.value)
    assert set(hub.files("me/ants") or ()) == ({".gitattributes"} if left else set())
    hub.fault = None
    push(made, "me/ants")  # and the second attempt goes through
    assert "run.json" in (hub.files("me/ants") or {})


def test_a_failure_leaves_what_was_there(hub: FakeHub, made: Path) -> None:
    before = push(made, "me/ants").revision
    hub.fault = "broken-commit"
    with pytest.raises(DownloadError, match="as it was"):
        push(made, "me/ants")
    assert hub.commit("me/ants") == before


def test_an_answer_that_never_came(hub: FakeHub, made: Path) -> None:
    hub.fault = "unheard-commit"
    with pytest.raises(DownloadError, match="not known") as caught:
        push(made, "me/ants")
    assert "as it was" not in str(caught.value)
    assert "run.json" in (hub.files("me/ants") or {})
    hub.fault = "no-space"  # before the commit is sent, all is known
    hub.objects.clear()
    with pytest.raises(DownloadError, match="as it was"):
        push(made, "me/ants")


def test_a_wrong_token(hub: FakeHub, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(DownloadError, match="does not let you"):
        push(made, "me/ants")
    assert hub.files("me/ants") is None


def test_no_token(hub: FakeHub, made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="no token"):
        push(made, "me/ants")
    assert hub.count() == 0


def test_offline(hub: FakeHub, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with pytest.raises(NotFoundError, match="offline"):
        push(made, "me/ants")
    assert hub.count() == 0


@pytest.mark.parametrize("repo", ["ants", "me/ants/more", "../ants", "me/..", "/etc/passwd", "me/a--b", "me/x.git", ""])
def test_a_bad_name(repo: str, made: Path) -> None:
    with pytest.raises(UsageError, match="no name of a repository"):
        push(made, repo, dry_run=True)


def test_a_run_that_has_not_ended(made: Path, tmp_path: Path) -> None:
    record = json.loads((made / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**record, "state": "running"}))
    with pytest.raises(IntegrityError, match="not finished"):
        push(tmp_path, "me/ants", dry_run=True)
    (tmp_path / "run.json").write_text(json.dumps(record))
    (tmp_path / "history.jsonl").write_text("")
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(IntegrityError):
        push(tmp_path, "me/ants", dry_run=True)


def test_the_verb(hub: FakeHub, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert zoo_command(["push", str(made), "me/ants", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["repo"], said["revision"], said["private"]) == ("me/ants", hub.commit("me/ants"), True)
    assert sorted(file["path"] for file in said["files"]) == FILES
    assert zoo_command(["--offline", "push", str(made), "me/ants"]) == 3
    hub.fault = "forbidden"
    assert zoo_command(["push", str(made), "me/other"]) == 4
    assert zoo_command(["push", str(made), "me/other", "--dry-run"]) == 0
    assert zoo_command(["push", str(made), "other"]) == 2
    assert "hf_secret" not in "".join(capsys.readouterr())


class TestPaths:
    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("/home/me/photos", "photos"),
            ("/home/me/photos/", "photos"),
            ("~/photos", "photos"),
            ("file:/home/me/a.safetensors", "a.safetensors"),
            (r"C:\Users\me\photos", "photos"),
            ("3 of /home/me/photos/a.png, /srv/x/b.png", "3 of a.png, b.png"),
            ("hf://timm/resnet18.tv_in1k@main/model.safetensors", "hf://timm/resnet18.tv_in1k@main/model.safetensors"),
            ("https://example.org/a/b/c", "https://example.org/a/b/c"),
            ("train/val and 1/2", "train/val and 1/2"),
            ("digits", "digits"),
            ("file:///home/jane/x/y.jpg", "y.jpg"),
            ("seen at file:///home/Jane Doe/x/y.jpg, twice", "seen at y.jpg, twice"),
            ("ants:/home/jane/x", "ants:x"),
            ("../../home/jane/priv/x", "x"),
            ("of ../Jane Doe/priv/x.png", "of x.png"),
            (r"C:\Users\Jane Doe\x\a.jpg", "a.jpg"),
            (r"seen at C:\Users\Jane Doe\x\a.jpg, twice", "seen at a.jpg, twice"),
            (r"on \\clinic\Jane Doe\a.jpg", "on a.jpg"),
            ("/data/O'Brien/photos/x.jpg", "x.jpg"),
            ("twice: '/data/O'Brien/photos/x.jpg'", "twice: 'x.jpg'"),
            ("'/data/Jane/x.jpg' and '/data/Joe/y.jpg'", "'x.jpg' and 'y.jpg'"),
            ("in /data/Doe, Jane (2)/x.jpg", "in x.jpg"),
            ("see ~/Jane/x.jpg", "see x.jpg"),
            ("https://h/x.safetensors?token=SECRET", "https://h/x.safetensors"),
            ("from https://jane:SECRET@h.org/x/y#SECRET twice", "from https://h.org/x/y twice"),
            ("read /data/a and 1/2 of all", "read 2 of all"),
        ],
    )
    def test_text(self, before: str, after: str) -> None:
        assert without_paths({"a": [before, 1, None]}) == {"a": [after, 1, None]}

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("in /Jane/my: x; 'y', z/a b/c.png, twice", "in c.png, twice"),
            ("in /Jane/my: x; 'y', z", "in my: x; 'y', z"),
            ("in /Jane/my: x; 'y', z/c.png and more", "in c.png and more"),
        ],
    )
    def test_a_known_folder_whatever_its_name(self, before: str, after: str) -> None:
        assert without_paths(before, ["/Jane/my: x; 'y', z"]) == after

    def test_nothing_of_this_machine_goes(self, made: Path, tmp_path: Path, hub: FakeHub) -> None:
        run = tmp_path / "run"
        shutil.copytree(made, run)
        record = json.loads((run / "run.json").read_text())
        home = Path.home()
        record["call"] |= {"data": "/srv/SECRET; of 'SECRET'/photos", "weights": "https://h/x.safetensors?token=SECRET"}
        record["notes"] = [
            "3 of /srv/SECRET; of 'SECRET'/photos/ant/SECRET/a.png, twice",
            "ants:/home/SECRET/x",
            "file:///home/SECRET/x/y.jpg",
            "../../home/SECRET/priv/x",
            r"C:\Users\SECRET person\x\a.jpg",
            "/data/O'SECRET/photos/x.jpg",
            f"{home}",
            f"in {home}, and in {home / 'SECRET' / 'x'}",
            f"{Path.cwd() / 'SECRET' / 'x'}",
        ]
        (run / "run.json").write_text(json.dumps(record))
        push(run, "me/ants")
        files = hub.files("me/ants") or {}
        for name in ("run.json", "history.jsonl", "README.md"):
            assert b"SECRET" not in files[name]
            assert str(home).encode() not in files[name]
        sent = json.loads(files["run.json"])
        assert (sent["call"]["data"], sent["call"]["weights"]) == ("photos", "https://h/x.safetensors")
        assert sent["notes"][-3:-1] == ["~", "in ~, and in x"]


class TestCard:
    @pytest.fixture
    def record(self, made: Path) -> dict[str, Any]:
        return json.loads((made / "run.json").read_text())

    def weights(self, **more: Any) -> dict[str, Any]:
        named = {"name": "resnet18.tv_in1k", "sha256": "0" * 64, "trained_on": "imagenet-1k"}
        return {**named, "source": f"hf://timm/resnet18.tv_in1k@{'a' * 40}/model.safetensors", **more}

    @pytest.mark.parametrize(
        ("license", "expected"),
        [
            ("bsd-3-clause", {"license": "bsd-3-clause"}),
            ("Apache-2.0", {"license": "apache-2.0"}),
            (None, {"license": "unknown"}),
            ("house rules", {"license": "other", "license_name": "house rules"}),
        ],
    )
    def test_licence(self, license: str | None, expected: dict[str, str], record: dict[str, Any]) -> None:
        record["composition"]["weights"] = self.weights(license=license)
        found = front_matter(model_card(record))
        assert {key: value for key, value in found.items() if key.startswith("license")} == expected
        assert found["base_model"] == "timm/resnet18.tv_in1k"

    def test_no_source_no_licence(self, record: dict[str, Any]) -> None:
        found = front_matter(model_card(record))
        assert not {"license", "license_name", "base_model", "datasets"} & set(found)

    def test_no_repository_no_base_model(self, record: dict[str, Any]) -> None:
        record["composition"]["weights"] = self.weights(license="mit", source=None)
        assert "base_model" not in front_matter(model_card(record))

    def test_what_a_record_may_lack(self, record: dict[str, Any]) -> None:
        del record["device"], record["versions"]
        card = model_card(record)
        assert f"| seed, device, precision | 0, not recorded, {record['precision']} |" in card
        assert f"| versions | zoo {record['zoo']}, torch not recorded, Python not recorded |" in card

    def test_text_beyond_16_bits(self, record: dict[str, Any]) -> None:
        record["data"]["name"] = "ants \U0001f41c, \u00e9"
        (result,) = front_matter(model_card(record))["model-index"][0]["results"]
        assert result["dataset"]["name"] == "ants \U0001f41c, \u00e9"

    def test_the_hubs_own_reader(self, record: dict[str, Any]) -> None:
        from huggingface_hub import ModelCard

        record["data"]["name"] = 'x: "y"\n- z'
        data = ModelCard(model_card(record)).data
        (result,) = data.eval_results or []
        assert (result.metric_type, result.task_type) == ("accuracy", "image-classification")
        assert result.metric_value == pytest.approx(record["metrics"]["accuracy"], rel=1e-4)
        assert result.dataset_name == 'x: "y"\n- z'
        assert (data.library_name, data.metrics) == ("transfer-zoo", ["accuracy"])


def test_the_fake_hub_takes_what_its_own_client_sends(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"large" * 1000)
    (tmp_path / "b.txt").write_text("small")
    api = HfApi(endpoint=hub.url, token=hub.token)
    assert api.create_repo("me/x", private=True).repo_id == "me/x"
    api.create_repo("me/x", exist_ok=True)
    done = api.upload_folder(repo_id="me/x", folder_path=tmp_path)
    assert done.oid == hub.commit("me/x") == api.model_info("me/x").sha
    assert api.model_info("me/x").private
    api.delete_file("b.txt", "me/x")
    assert sorted(hub.files("me/x") or ()) == [".gitattributes", "a.safetensors"]
    assert sum(seen.path.startswith("/lfs/") for seen in hub.requests) == 1
