"""zoo.lock: sorted, whole, and true to the source it speaks of."""

from __future__ import annotations

import multiprocessing
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from zoo.catalog.spec import Weights
from zoo.errors import IntegrityError
from zoo.settings import Settings
from zoo.weights.lock import Entry, Lock, place

ENTRY = Entry(
    source=f"hf://timm/tiny@{'1' * 40}/model.safetensors",
    file="model.safetensors",
    sha256="a" * 64,
    bytes=12,
    revision="1" * 40,
)


def weights(source: str = "hf://timm/tiny@main/model.safetensors") -> Weights:
    return Weights(name="tiny.a", backbone="tiny", source=source)


def test_it_lies_beside_the_topmost_registry(settings: Settings, tmp_path: Path) -> None:
    assert place(settings) == settings.home / "zoo.lock"
    (tmp_path / "registry.toml").write_text("schema = 1\n")
    assert place(settings) == tmp_path / "zoo.lock"
    assert place(replace(settings, registry=tmp_path / "other" / "r.toml")) == tmp_path / "other" / "zoo.lock"


def test_it_is_sorted_and_says_nothing_twice(tmp_path: Path) -> None:
    path = tmp_path / "zoo.lock"
    Lock(path).write("tiny.b", ENTRY)
    Lock(path).write("tiny.a", replace(ENTRY, format="pickle", converted_sha256="b" * 64))
    text = path.read_text()
    assert list(tomllib.loads(text)["weights"]) == ["tiny.a", "tiny.b"]
    assert str(tmp_path) not in text
    before = path.stat().st_mtime_ns
    Lock(path).write("tiny.b", ENTRY)
    assert path.stat().st_mtime_ns == before
    assert Lock(path).entries["tiny.b"] == ENTRY


@pytest.mark.parametrize(
    ("source", "known"),
    [
        ("hf://timm/tiny@main/model.safetensors", True),
        (f"hf://timm/tiny@{'1' * 40}/model.safetensors", True),
        (f"hf://timm/tiny@{'2' * 40}/model.safetensors", False),
        ("hf://timm/other@main/model.safetensors", False),
        ("https://example.org/model.safetensors", False),
    ],
)
def test_an_entry_counts_for_its_own_source(source: str, known: bool, tmp_path: Path) -> None:
    Lock(tmp_path / "zoo.lock").write("tiny.a", ENTRY)
    assert (Lock(tmp_path / "zoo.lock").entry(weights(source)) is not None) is known


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "",
        "schema = 2",
        "schema = 1\nweights = 3",
        "schema = 1\n[weights]\na = 3",
        'schema = 1\n[weights."a.b"]\nsource = "x:y"',
        f'schema = 1\n[weights."a.b"]\nsource="x:y"\nfile="f"\nsha256="{"a" * 63}"\nbytes=1',
        f'schema = 1\n[weights."a.b"]\nsource="http://x/y"\nfile="f"\nsha256="{"a" * 64}"\nbytes=1',
        f'schema = 1\n[weights."a.b"]\nsource="x:y"\nfile="f"\nsha256="{"a" * 64}"\nbytes=-1',
        f'schema = 1\n[weights."a.b"]\nsource="x:y"\nfile="f"\nsha256="{"a" * 64}"\nbytes=1\nrevision="../.."',
        f'schema = 1\n[weights."a.b"]\nsource="x:y"\nfile="f"\nsha256="{"a" * 64}"\nbytes=1\nmore=1',
    ],
)
def test_a_damaged_lock_is_named_and_left(text: str, tmp_path: Path) -> None:
    path = tmp_path / "zoo.lock"
    path.write_text(text)
    with pytest.raises(IntegrityError, match="is damaged"):
        Lock(path)
    assert path.read_text() == text


def _write(path: Path, index: int) -> None:
    Lock(path).write(f"tiny.n{index}", ENTRY)


def test_processes_write_at_the_same_time(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write, args=(tmp_path / "zoo.lock", index)) for index in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert len(Lock(tmp_path / "zoo.lock").entries) == 4
