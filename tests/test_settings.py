"""Where files live."""

from __future__ import annotations

import sys

import pytest
from platformdirs import user_data_path

from zoo.errors import UsageError
from zoo.settings import Settings


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
