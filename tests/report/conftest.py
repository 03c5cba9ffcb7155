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
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """A headless Chromium."""
    if os.name != "posix":
        pytest.skip("the browser's pipe needs POSIX")
    from chromium import Chromium, find

    if find() is None:
        pytest.skip("no Chromium is on the path")
    found = Chromium(tmp_path_factory.mktemp("chromium"))
    yield found
    found.close()
