"""The verb `rank`."""

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


def test_rank_refuses(cli: Any, photos: Path) -> None:
    assert cli("rank", photos).code == 2
    assert cli("rank", photos, "-b", "nothing*").code == 3
    assert cli("rank", "nowhere", "-b", "source_cnn").code == 3
    assert cli("rank", photos, "-b", "resnet18").code == 3  # offline
    assert cli("rank", photos, "-b", "resnet18", "--folds", "1").code == 2
