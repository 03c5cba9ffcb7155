"""The verbs `rank` and `audit`, and `evaluate --guard`."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def test_rank(cli: Any, photos: Path) -> None:
    assert cli("pretrain", "digits", "-b", "source_cnn", "--publish", "source_cnn.one", "--set", "epochs=1").code == 0
    result = cli("rank", photos, "-b", "source_cnn*", "--json")
    assert result.code == 0, result.err
    (row,) = result.json
    assert {"backbone", "weights", "score", "stderr", "tied_with_best", "logme", "seconds"} <= set(row)
    assert row["weights"] == "source_cnn.one"
    assert row["tied_with_best"] is True
    shown = cli("rank", photos, "-b", "source_cnn")
    assert "source_cnn.one" in shown.out
    assert "best on photos" in shown.out


def test_rank_says_what_it_would_pull_and_pulls_nothing(cli: Any, photos: Path) -> None:
    Path("registry.toml").write_text(
        'schema = 1\n[weights."resnet18.big"]\nbackbone = "resnet18"\nsource = "https://example.org/a.safetensors"\n'
        'bytes = 46800000\nlicense = "mit"\n'
    )
    command = ("rank", photos, "-b", "resnet18.big", "-b", "resnet34.tv_in1k")
    rows = cli(*command, "--dry-run", "--json").json  # offline: nothing can be asked for
    assert [(row["weights"], row["pulled"], row["license"], row["bytes_to_pull"]) for row in rows] == [
        ("resnet18.big", False, "mit", 46_800_000),
        ("resnet34.tv_in1k", False, "bsd-3-clause", None),
    ]
    assert "46.8 MB" in cli(*command, "--dry-run").out
    assert cli("rank", photos, "-b", "nothing*", "--dry-run").code == 3
    said = cli(*command)  # before it fails, since nothing can be had
    assert said.code == 3
    assert "to pull: resnet18.big, resnet34.tv_in1k (47 MB and 1 of unknown size)" in said.err


def test_rank_refuses(cli: Any, photos: Path) -> None:
    assert cli("rank", photos).code == 2
    assert cli("rank", photos, "-b", "nothing*").code == 3
    assert cli("rank", "nowhere", "-b", "source_cnn").code == 3
    assert cli("rank", photos, "-b", "resnet18").code == 3  # offline
    assert cli("rank", photos, "-b", "resnet18", "--folds", "1").code == 2


def test_audit(cli: Any, photos: Path, tmp_path: Path) -> None:
    (photos / "red" / "again.png").write_bytes((photos / "red" / "00.png").read_bytes())
    result = cli("audit", photos, "--json", "--fix-list", tmp_path / "fix.csv")
    assert result.code == 0, result.err
    keys = {"classes", "unreadable", "duplicates", "near_duplicates", "leakage", "label_suspects", "shifts"}
    assert keys <= set(result.json)
    (copy,) = result.json["duplicates"]
    assert (copy["split"], Path(copy["path"]).name) == ("train", "again.png")
    assert (tmp_path / "fix.csv").read_text().count("duplicates,") == 1
    shown = cli("audit", photos)
    assert "duplicates: 1" in shown.out
    assert "leakage: none" in shown.out


def test_audit_refuses(cli: Any, photos: Path, tmp_path: Path) -> None:
    assert cli("audit", "nowhere").code == 3
    assert cli("audit", photos, "-b", "nothing").code == 3
    (tmp_path / "fix.csv").write_text("mine")
    assert cli("audit", photos, "--fix-list", tmp_path / "fix.csv").code == 2
    assert (tmp_path / "fix.csv").read_text() == "mine"


def test_audit_that_cannot_write_its_list_says_what_it_found(cli: Any, photos: Path, tmp_path: Path) -> None:
    (photos / "red" / "again.png").write_bytes((photos / "red" / "00.png").read_bytes())
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "fix.csv"
    shown = cli("audit", photos, "--fix-list", place)
    assert shown.code == 6
    assert "duplicates: 1" in shown.out
    record = cli("audit", photos, "--fix-list", place, "--json")
    assert record.code == 6
    found = record.json
    assert found["error"]["code"] == "disk"
    assert len(found["duplicates"]) == 1


def test_evaluate_with_a_guard(cli: Any, photos: Path, tmp_path: Path) -> None:
    assert cli("fit", photos, "-b", "source_cnn", "-w", "none", "-s", "linear-probe", "-o", "run").code == 0
    result = cli("evaluate", "run", photos, "--guard", "--json")
    assert result.code == 0, result.err
    assert {"verdict", "gain", "interval", "baselines"} <= set(result.json["guard"])
    assert "guard: " in cli("evaluate", "run", photos, "--guard").out
    assert cli("evaluate", "run", photos, "--train", photos).code == 2
    photos.rename(tmp_path / "moved")
    assert cli("evaluate", "run", tmp_path / "moved", "--guard").code == 7
    assert cli("evaluate", "run", tmp_path / "moved", "--guard", "--train", tmp_path / "moved").code == 0


def test_export(cli: Any, photos: Path) -> None:
    assert cli("fit", photos, "-b", "source_cnn", "-w", "none", "-s", "linear-probe", "-o", "run").code == 0
    result = cli("export", "run", "-f", "torch", "out/net.pt2", "--json")
    assert result.code == 0, result.err
    assert result.json["path"] == "out/net.pt2"
    assert result.json["parity"] <= 1e-4
    assert cli("export", "run", "out/net.pt2").code == 2
    assert cli("export", "nowhere", "x.onnx").code == 3
