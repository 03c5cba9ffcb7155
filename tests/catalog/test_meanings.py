"""What options mean is read from docstrings, without importing anything heavy."""

from __future__ import annotations

import doctest
import sys
from pathlib import Path

import pytest

import zoo
from zoo.catalog import meanings as module
from zoo.catalog.meanings import entries, meanings


def test_examples() -> None:
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("spec", zoo.list_strategies(), ids=lambda spec: spec.name)
def test_every_option_of_the_zoos_own_has_a_meaning(spec: zoo.Strategy) -> None:
    assert set(meanings(spec)) == set(spec.options)


def test_of_a_class_and_its_bases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "my_ways"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "base.py").write_text(
        'class Base:\n    """B.\n\n    Args:\n        k: of the base.\n        m: also.\n    """\n'
    )
    (package / "way.py").write_text(
        "import nothing_that_exists\nfrom .base import Base as Other\n\n\n"
        'class Way(Other):\n    """W.\n\n    Args:\n        k: its own,\n            in two lines.\n    """\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    options = {"k": 1, "m": 2, "silent": 3}
    spec = zoo.Strategy("way", "closed-form", "my_ways.way:Way", options)
    assert meanings(spec) == {"k": "its own, in two lines.", "m": "also."}
    assert "my_ways.way" not in sys.modules
    assert meanings(zoo.Strategy("way", "closed-form", "my_ways.nowhere:Way", options)) == {}
    assert meanings(zoo.Strategy("way", "closed-form", "no_such_package.way:Way", options)) == {}


def test_other_sections_are_left_out() -> None:
    assert entries("A.\n\nReturns:\n    a: no.\n\nArgs:\n    b: yes.\nOther:\n    c: no.") == {"b": "yes."}
