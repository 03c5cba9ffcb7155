"""Registry files are written one entry at a time, whole or not at all."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zoo.catalog import ledger
from zoo.catalog.spec import Preprocessing, Weights
from zoo.errors import DiskError, NotFoundError, RegistryError, UsageError

SHA = "ab" * 32


def weights(name: str = "net.a", **values: object) -> Weights:
    arch = name.partition(".")[0]
    return Weights(**{"name": name, "backbone": arch, "source": "hf://o/r@main/model.safetensors", **values})  # type: ignore[arg-type]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "registry.toml"
    spec = weights(
        default=True, sha256=SHA, sha256_prefix=SHA[:8], bytes=12, license="mit", trained_on="glyphs", num_classes=3,
        options={"pad_type": "same", "sizes": [1, 2]}, metrics={"top1": 0.5},
        preprocessing=Preprocessing(input_size=(1, 28, 28), mean=(0.5,), std=(0.25,), extra={"x-a": 1}),
        files=({"source": "hf://o/r@main/a", "role": "weights"},),
    )  # fmt: skip
    ledger.add_weights(path, spec)
    found = ledger.read(path).weights["net.a"]
    assert replace(found, origin="") == spec
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert {entry.name for entry in path.parent.iterdir()} <= {"registry.toml", "registry.toml.lock"}


def test_another_kind_of_preprocessing(tmp_path: Path) -> None:
    spec = weights(preprocessing=Preprocessing(kind="audio", input_size=(3, 96, 64), extra={"rate": 8000}))
    ledger.add_weights(tmp_path / "r.toml", spec)
    assert ledger.read(tmp_path / "r.toml").weights["net.a"].preprocessing == spec.preprocessing


def test_comments_and_unknown_x_keys_stay(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(
        '# at the top\nschema = 1  # the only one\nx-mine = 1\n\n[aliases]\n# why\nmy = "net.a"\n\n'
        '[weights."net.old"] # old\nbackbone = "net"\nsource = "file:old.safetensors"\nx-note = "kept"\n\n'
        '[plugins]\ndisabled = []\n'
    )  # fmt: skip
    ledger.add_weights(path, weights())
    text = path.read_text()
    for kept in ("# at the top", "# the only one", "x-mine = 1", "# why", "# old", 'x-note = "kept"'):
        assert kept in text
    assert set(ledger.read(path).weights) == {"net.old", "net.a"}
    ledger.remove_weights(path, "net.old")
    text = path.read_text()
    assert "# at the top" in text
    assert "# why" in text
    assert set(ledger.read(path).weights) == {"net.a"}


def test_a_name_that_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    ledger.add_weights(path, weights())
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"net\.a"):
        ledger.add_weights(path, weights(license="mit"))
    assert path.read_bytes() == before
    ledger.add_weights(path, weights(license="mit"), replace=True)
    assert ledger.read(path).weights["net.a"].license == "mit"


def test_one_default_for_a_backbone(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    for name in ("net.a", "net.b", "other.a"):
        ledger.add_weights(path, weights(name, default=True))
    assert {name: spec.default for name, spec in ledger.read(path).weights.items()} == {
        "net.a": False, "net.b": True, "other.a": True,
    }  # fmt: skip


def test_file_sources_inside_the_folder_are_relative(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    ledger.add_weights(path, weights("net.in", source=f"file:{tmp_path / 'sub/w.safetensors'}"))
    ledger.add_weights(path, weights("net.out", source="file:/elsewhere/w.safetensors"))
    assert 'source = "file:sub/w.safetensors"' in path.read_text()
    found = ledger.read(path).weights
    assert found["net.in"].source == f"file:{tmp_path / 'sub/w.safetensors'}"
    assert found["net.out"].source == "file:/elsewhere/w.safetensors"


def test_nothing_is_written_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    ledger.add_weights(path, weights())
    before = path.read_bytes()
    for bad in (weights("net.b", sha256="short"), weights("net.b", source="nowhere"), weights("net.b", bytes=-1)):
        with pytest.raises(RegistryError):
            ledger.add_weights(path, bad)
    assert path.read_bytes() == before
    path.write_text("schema = 1\nwrong = 2\n")
    with pytest.raises(RegistryError, match="wrong"):
        ledger.add_weights(path, weights())
    assert path.read_text() == "schema = 1\nwrong = 2\n"


def test_removing_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        ledger.remove_weights(tmp_path / "r.toml", "net.a")
    assert list(tmp_path.iterdir()) == []
    ledger.add_weights(tmp_path / "r.toml", weights())
    with pytest.raises(NotFoundError, match=r"net\.b"):
        ledger.remove_weights(tmp_path / "r.toml", "net.b")


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError):
        ledger.add_weights(tmp_path / "file" / "r.toml", weights())


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real = tmp_path / "real" / "r.toml"
    ledger.add_weights(real, weights())
    link = tmp_path / "r.toml"
    link.symlink_to(real)
    ledger.add_weights(link, weights("net.b"))
    assert link.is_symlink()
    assert set(ledger.read(real).weights) == {"net.a", "net.b"}


_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(license=_text, options=st.dictionaries(_text, _text | st.integers(-9, 9) | st.booleans(), max_size=3))
def test_any_text_comes_back(tmp_path: Path, license: str, options: dict[str, object]) -> None:
    spec = weights(license=license, options=options)
    ledger.add_weights(tmp_path / "r.toml", spec, replace=True)
    assert replace(ledger.read(tmp_path / "r.toml").weights["net.a"], origin="") == spec


def test_four_processes_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    program = (
        "import sys; from pathlib import Path; from zoo.catalog import ledger; from zoo.catalog.spec import Weights\n"
        "for n in range(8):\n"
        "    name = f'net.p{sys.argv[2]}_{n}'\n"
        "    ledger.add_weights(Path(sys.argv[1]), Weights(name, 'net', 'hf://o/r@main/model.safetensors'))\n"
    )
    started = [subprocess.Popen([sys.executable, "-c", program, str(path), str(n)]) for n in range(4)]
    assert [one.wait(timeout=60) for one in started] == [0, 0, 0, 0]
    assert set(ledger.read(path).weights) == {f"net.p{p}_{n}" for p in range(4) for n in range(8)}
