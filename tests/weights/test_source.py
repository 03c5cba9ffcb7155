"""Sources: what is not of a known form never becomes a path or an address."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.catalog.spec import Weights
from zoo.errors import RegistryError
from zoo.weights.source import HubFile, LocalFile, PluginFile, WebFile, parse, source_of


def test_the_forms(tmp_path: Path) -> None:
    assert parse("hf://timm/resnet18.tv_in1k@main/model.safetensors") == HubFile(
        "timm/resnet18.tv_in1k", "main", "model.safetensors"
    )
    assert parse("hf://a/b/sub/x.bin") == HubFile("a/b", "main", "sub/x.bin")
    assert parse("https://example.org/a/x.pth") == WebFile("https://example.org/a/x.pth")
    assert parse("file:/a/b.safetensors") == LocalFile(Path("/a/b.safetensors"))
    assert parse("file:///a/b%20c.safetensors") == LocalFile(Path("/a/b c.safetensors"))
    assert parse("file:b.safetensors", base=tmp_path) == LocalFile(tmp_path / "b.safetensors")
    assert parse("s3://bucket/x.safetensors") == PluginFile("s3", "s3://bucket/x.safetensors")


def test_a_relative_file_lies_beside_its_registry(tmp_path: Path) -> None:
    weights = Weights(name="a.b", backbone="a", source="file:w/x.safetensors", origin=str(tmp_path / "registry.toml"))
    assert source_of(weights) == LocalFile(tmp_path / "w/x.safetensors")


def test_a_commit_is_pinned_and_a_branch_resolves_to_any() -> None:
    branch, commit = HubFile("a/b", "main", "x"), HubFile("a/b", "0" * 40, "x")
    assert commit.pinned
    assert not branch.pinned
    assert branch.same_file(commit)
    assert not commit.same_file(branch)
    assert not branch.same_file(HubFile("a/c", "0" * 40, "x"))


@pytest.mark.parametrize(
    "text",
    [
        "model.safetensors",
        "hf://repo/x",
        "hf://a/b@main",
        "hf://../../etc@main/passwd",
        "hf://a/b@../main/x",
        "hf://a/b@main/../x",
        "hf://a/b@main/.git/x",
        "hf://a/b@main/x?y=1",
        "hf://a/b@main/x#y",
        "hf://a/b@main/x\n",
        "hf://a/b@main//x",
        "hf://a\\b/c@main/x",
        "hf://a/b@main/x%2e%2e",
        "http://example.org/x",
        "https:///x",
        "https://user:secret@example.org/x",
        "https://example.org:0x1/x",
        "https://example.org/x y",
        "https://example.org/\u0430",
        "https://-example/x",
        "https://example.org/x\r\nHost: other",
        "file:",
        "file:a\0b",
        "s3://a\x1bb",
    ],
)
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(RegistryError):
        parse(text)


@given(st.text(max_size=60))
def test_a_hub_source_stays_in_its_place(text: str) -> None:
    try:
        found = parse(f"hf://{text}")
    except RegistryError:
        return
    assert isinstance(found, HubFile)
    parts = [*found.repo.split("/"), found.revision, *found.file.split("/")]
    assert all(part.isascii() and part.isprintable() and part.strip(".") and " " not in part for part in parts)
    assert parse(str(found)) == found
