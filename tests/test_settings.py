"""Where files live."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from platformdirs import user_data_path

from zoo.errors import UsageError
from zoo.settings import Settings, elsewhere


@pytest.mark.skipif(sys.platform == "android", reason="not decided by the environment")
@pytest.mark.parametrize("base", [None, "", "  ", "/srv/data", "~/data"])
def test_the_home_is_where_the_platform_keeps_data(monkeypatch: pytest.MonkeyPatch, base: str | None) -> None:
    monkeypatch.delenv("ZOO_HOME")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    if base is not None:
        monkeypatch.setenv("XDG_DATA_HOME", base)
    assert Settings().home == user_data_path("zoo", appauthor=False)


@pytest.mark.parametrize("value", ["maybe", "2", "offline"])
def test_a_flag_that_is_neither_yes_nor_no(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", value)
    with pytest.raises(UsageError, match="ZOO_OFFLINE"):
        Settings()


@pytest.mark.parametrize(("value", "means"), [("1", True), ("Yes", True), ("", False), ("0", False), ("off", False)])
def test_flags(monkeypatch: pytest.MonkeyPatch, value: str, means: bool) -> None:
    monkeypatch.setenv("ZOO_STRICT", value)
    assert Settings().strict is means


@pytest.mark.parametrize("variable", ["ZOO_HOME", "ZOO_REGISTRY", "ZOO_PLUGINS_DIR"])
def test_a_user_nobody_knows(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "~nobody-of-this-name/x")
    with pytest.raises(UsageError, match="no home directory is known for ~nobody-of-this-name"):
        Settings()


def test_only_what_lies_in_the_home_is_moved_by_zoo_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    assert "ZOO_HOME" in elsewhere(tmp_path / "home" / "blobs" / "x")
    for place in (tmp_path / "home2", tmp_path, "runs/one", None):
        assert elsewhere(place) == "choose another place"
    monkeypatch.setenv("ZOO_HOME", "~nobody-of-this-name/x")
    assert elsewhere(tmp_path) == "choose another place"
