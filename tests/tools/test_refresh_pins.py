"""Pins are asked for, compared and written, against a Hub on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from zoo.catalog import ledger
from zoo.testing.hub import FakeHub

TEXT = """# A comment that stays.
schema = 1

[weights."tiny.a"]
backbone = "tiny"
source = "hf://me/a@main/model.safetensors"  # of the publisher
license = "mit"

[weights."tiny.b"]  # another one
backbone = "tiny"
source = "hf://me/b@main/model.safetensors"
metrics = { top1 = 1.0 }

[weights."tiny.local"]
backbone = "tiny"
source = "file:x.safetensors"
"""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.delenv("ZOO_OFFLINE")
    with FakeHub() as server:
        for name in "ab":
            server.add(f"me/{name}", "model.safetensors", name.encode() * 100)
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    path = tmp_path / "registry.toml"
    path.write_text(TEXT.replace("  # another one", ""))
    return path


@pytest.fixture
def refresh(tool: Callable[[str], ModuleType]) -> Callable[..., int]:
    program = tool("refresh_pins")
    return lambda *arguments: program.main([str(argument) for argument in arguments])


def test_what_is_missing_is_written(refresh: Callable[..., int], registry: Path, hub: FakeHub) -> None:
    assert refresh(registry, "--check") == 1
    assert registry.read_text() == TEXT.replace("  # another one", "")
    assert refresh(registry) == 0
    found = ledger.read(registry).weights
    for name in "ab":
        one = found[f"tiny.{name}"]
        assert one.source == f"hf://me/{name}@{hub.commit(f'me/{name}')}/model.safetensors"
        assert one.sha256 == hashlib.sha256(name.encode() * 100).hexdigest()
        assert one.bytes == 100
    assert found["tiny.a"].license == "mit"
    assert found["tiny.b"].metrics == {"top1": 1.0}
    assert registry.read_text().startswith("# A comment that stays.")
    assert hub.count("GET") == 0
    before = registry.read_bytes()
    assert refresh(registry, "--check") == 0
    assert refresh(registry) == 0
    assert registry.read_bytes() == before


def test_only_some(refresh: Callable[..., int], registry: Path, hub: FakeHub) -> None:
    assert refresh(registry, "--only", "tiny.b") == 0
    found = ledger.read(registry).weights
    assert (found["tiny.a"].sha256, found["tiny.b"].bytes) == (None, 100)


def test_a_newer_commit_is_taken_on_demand(
    refresh: Callable[..., int], registry: Path, hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    refresh(registry)
    old = hub.commit("me/a")
    hub.add("me/a", "model.safetensors", b"c" * 50)
    capsys.readouterr()
    assert refresh(registry, "--move") == 0
    said = capsys.readouterr().out
    assert f"@{old}/" in said
    assert f"@{hub.commit('me/a')}/" in said
    assert "tiny.b" not in said
    found = ledger.read(registry).weights["tiny.a"]
    assert (found.bytes, found.sha256) == (50, hashlib.sha256(b"c" * 50).hexdigest())


def test_a_wrong_pin_is_named_and_left(
    refresh: Callable[..., int], registry: Path, hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    refresh(registry)
    text = registry.read_text().replace("bytes = 100", "bytes = 101", 1)
    registry.write_text(text)
    assert refresh(registry) == 1
    assert "tiny.a: its pin is not what the source has" in capsys.readouterr().err
    assert registry.read_text() == text


def test_a_source_that_fails_is_named(
    refresh: Callable[..., int], registry: Path, hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.write_text(registry.read_text().replace("me/a", "me/gone"))
    assert refresh(registry) == 1
    assert "tiny.a: the server has no such" in capsys.readouterr().err
    assert ledger.read(registry).weights["tiny.b"].bytes == 100
