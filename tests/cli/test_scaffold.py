"""new-plugin: what it writes is installed by pip, found, fitted with, and passes its own tests."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo.cli import scaffold

KINDS = {"backbone": "stranger", "strategy": "zoo-near-mean"}


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one project of each kind."""
    folder = tmp_path_factory.mktemp("projects")
    for kind, name in KINDS.items():
        done = zoo_of(sys.executable, folder, "new-plugin", name, "--kind", kind, "--json")
        assert json.loads(done.stdout)["path"] == str(folder / name)
    return folder


@pytest.fixture(scope="module")
def python(projects: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python whose environment lies above the present one, with both projects installed by pip."""
    for tool in ("pip", "setuptools"):  # found, not imported: setuptools puts itself in distutils' place
        if importlib.util.find_spec(tool) is None:
            pytest.skip(f"{tool} is not installed")
    layer = tmp_path_factory.mktemp("layer")
    venv.create(layer, with_pip=False)
    windows = os.name == "nt"
    made = str(layer / ("Scripts/python.exe" if windows else "bin/python"))
    site = subprocess.run(
        [made, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    below = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    lines = "".join(f"import site; site.addsitedir({folder!r})\n" for folder in sorted(below))
    (Path(site) / "below.pth").write_text(lines)
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        [made, *install, "--disable-pip-version-check", *(str(projects / name) for name in KINDS.values())],
        capture_output=True,
        text=True,
        env={**os.environ, "PIP_CONFIG_FILE": os.devnull},
    )
    assert done.returncode == 0, done.stderr
    assert not any(path.name == "torch" for path in Path(site).iterdir())
    return made


def zoo_of(python: str, folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """`zoo ARGS` in a process of that Python, in `folder`."""
    home = folder / "home"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ZOO_", "HF_"))}
    done = subprocess.run(
        [python, "-m", "zoo", *args],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**environment, "ZOO_HOME": str(home), "ZOO_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done


def test_they_are_listed(python: str, tmp_path: Path) -> None:
    reports = {row["name"]: row for row in json.loads(zoo_of(python, tmp_path, "plugins", "--json").stdout)}
    for name, distribution in (("stranger", "zoo-stranger"), ("near-mean", "zoo-near-mean")):
        row = reports[name]
        assert (row["version"], row["origin"], row["state"], row["problem"]) == ("0.1.0", "entry-point", "ok", None)
        assert row["distribution"] == distribution
    (row,) = json.loads(zoo_of(python, tmp_path, "list", "stranger", "--json").stdout)
    assert (row["plugin"], row["num_features"]) == ("stranger", 64)
    strategies = {row["name"]: row for row in json.loads(zoo_of(python, tmp_path, "strategies", "--json").stdout)}
    assert strategies["near-mean"]["options"] == {"scale": 1.0}


def test_they_fit_together(python: str, tmp_path: Path) -> None:
    args = (
        "fit",
        "digits",
        "-b",
        "stranger",
        "-w",
        "none",
        "-s",
        "near-mean",
        "--set",
        "scale=2",
        "-o",
        "run",
        "--json",
    )
    found = json.loads(zoo_of(python, tmp_path, *args).stdout)
    assert found["metrics"]["accuracy"] > 0.2
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["composition"]["backbone"]["plugin"] == "stranger"
    assert record["composition"]["strategy"]["plugin"] == "near-mean"
    assert record["composition"]["strategy"]["plugin_version"] == "0.1.0"


def test_their_own_tests_pass(python: str, projects: Path) -> None:
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *KINDS.values()],
        cwd=projects,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed" not in done.stdout
    assert "passed" in done.stdout


def test_twenty_lines_suffice(projects: Path) -> None:
    for name in KINDS.values():
        lines: set[int] = set()
        total = 0
        for path in sorted((projects / name / "src").rglob("*.py")):
            tree = ast.parse(path.read_text())
            lines = {node.lineno for node in ast.walk(tree) if isinstance(node, ast.stmt) and not _is_frame(node)}
            total += len(lines)
        assert 0 < total <= 20, (name, total)


def _is_frame(node: ast.stmt) -> bool:
    """Imports and docstrings: what an editor writes."""
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return text or isinstance(node, ast.Import | ast.ImportFrom)


def test_what_is_written(projects: Path) -> None:
    folder = projects / KINDS["strategy"]
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    written = {
        path for path in written if "build/" not in path and ".egg-info" not in path and "__pycache__" not in path
    }
    assert written == {
        ".gitignore", "LICENSE", "README.md", "pyproject.toml", "src/zoo_near_mean/__init__.py",
        "src/zoo_near_mean/strategy.py", "tests/test_zoo_near_mean.py",
    }  # fmt: skip
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    assert project["project"]["name"] == "zoo-near-mean"
    assert project["project"]["entry-points"] == {"zoo": {"near-mean": "zoo_near_mean"}}
    assert "$" not in "".join((folder / path).read_text() for path in written)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../up", "cannot be called '../up'"),
        ("a/b", "cannot be called"),
        ("Tiny", "cannot be called"),
        ("9lives", "cannot be called"),
        ("zoo-", "cannot be called"),
        ("a--b", "cannot be called"),
        ("", "cannot be called"),
        ("a" * 65, "cannot be called"),
        ("alexnet", "a plugin called 'alexnet' is here already"),
        ("zoo-alexnet", "a plugin called 'alexnet' is here already"),
        ("resnet18", "backbone 'resnet18' is here already"),
        ("linear-probe", "strategy 'linear-probe' is here already"),
        ("plugins", "a module called 'zoo_plugins' is here already"),
    ],
)
def test_bad_names(cli: Callable[..., Any], name: str, said: str) -> None:
    done = cli("new-plugin", name, "--kind", "backbone", "--json")
    assert done.code == 2
    assert said in done.json["error"]["message"]
    assert done.json["error"]["hint"]
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("args", [(), ("--kind", "head")])
def test_bad_kinds(cli: Callable[..., Any], args: tuple[str, ...]) -> None:
    assert cli("new-plugin", "mine", *args).code == 2
    assert list(Path().iterdir()) == []


class TestPlaces:
    def test_an_empty_folder_is_filled(self, cli: Callable[..., Any]) -> None:
        Path("mine").mkdir()
        assert cli("new-plugin", "mine", "--kind", "strategy", "-q").code == 0
        assert Path("mine/pyproject.toml").is_file()

    def test_a_full_folder_and_a_file_stay_as_they_are(self, cli: Callable[..., Any]) -> None:
        Path("mine").mkdir()
        Path("mine/notes").write_text("mine")
        Path("yours").write_text("yours")
        for name in ("mine", "yours"):
            done = cli("new-plugin", name, "--kind", "backbone")
            assert done.code == 2
            assert f"{name} exists already and is not empty" in done.err
        assert sorted(path.as_posix() for path in Path().rglob("*")) == ["mine", "mine/notes", "yours"]

    def test_what_fails_half_way_leaves_nothing(self, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
        whole = scaffold.render(scaffold.Names("mine"), "backbone")

        class Full(dict):
            def items(self) -> Any:
                yield from list(super().items())[:3]
                raise OSError(28, "No space left on device")

        monkeypatch.setattr(scaffold, "render", lambda *_: Full(whole))
        assert cli("new-plugin", "mine", "--kind", "backbone").code == 6
        assert list(Path().iterdir()) == []

    def test_what_to_do_next_is_said(self, cli: Callable[..., Any]) -> None:
        done = cli("new-plugin", "mine", "--kind", "strategy")
        assert "pip install -e ./mine" in done.out
        assert "zoo fit digits -b source_cnn -w none -s mine" in done.out
