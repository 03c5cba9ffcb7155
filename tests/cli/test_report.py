"""report, catalog: what the verbs say and refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import zoo


def test_catalog_says_what_it_wrote(cli: Callable[..., Any]) -> None:
    done = cli("catalog", "out/c.html", "--json")
    assert done.code == 0, done.err
    assert done.json["backbones"] == len(zoo.list_backbones())
    assert done.json["bytes"] == Path(done.json["path"]).stat().st_size
    Path("mine.html").write_text("<p>mine")
    assert cli("catalog", "mine.html").code == 2
    assert Path("mine.html").read_text() == "<p>mine"
