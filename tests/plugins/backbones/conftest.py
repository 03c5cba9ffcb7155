"""The measuring program of `tools/`, as an oracle for what plugins declare."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def facts() -> ModuleType:
    path = Path(__file__).parents[3] / "tools" / "facts.py"
    spec = importlib.util.spec_from_file_location("zoo_tools_facts", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
