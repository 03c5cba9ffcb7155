"""A browser for the tests of this folder, where the machine has one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))

if TYPE_CHECKING:
    from chromium import Chromium


@pytest.fixture(scope="session")
def browser_or_none(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium | None]:
    """A headless Chromium, or None: for tests that parse a page first."""
    if os.name != "posix":  # its pipe needs it
        yield None
        return
    from chromium import Chromium, find

    if find() is None:
        yield None
        return
    found = Chromium(tmp_path_factory.mktemp("chromium"))
    works = found.answers()  # on some systems the name leads to a script that offers to install it
    yield found if works else None
    found.close()


@pytest.fixture
def browser(browser_or_none: Chromium | None) -> Chromium:
    """A headless Chromium."""
    if browser_or_none is None:
        pytest.skip("no working Chromium is on the path")
    return browser_or_none
