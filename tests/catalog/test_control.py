"""What a person decides about installed plugins, before any is imported; and `zoo plugins`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from wheels import build_wheel, pip_install, zoo

pytest.importorskip("pip")

SOURCE = """
import os, pathlib, zoo
pathlib.Path(os.environ.get("MARKS", "/nowhere"), "{0}").touch() if "MARKS" in os.environ else None

@zoo.hookimpl
def zoo_backbones():
    yield zoo.Backbone(name="{0}_net", family="f", build="{1}", num_features=8, params=930, input_size=(3, 8, 8),
                       head="classifier", requires={2})
"""
TINY = "zoo.testing.networks:Tiny"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four plugins: `one` by name from a folder of wheels, the others from files."""
    folder, target = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("site")
    build_wheel(folder, "zoo-one", "1.0", {"one": "zoo_t_one"}, zoo_t_one=SOURCE.format("one", TINY, ()))
    wheels = [
        build_wheel(folder, "zoo-two", "2.5.1", {"two": "zoo_t_two"}, zoo_t_two=SOURCE.format("two", TINY, ())),
        build_wheel(folder, "zoo-bad", "0.1", {"bad": "zoo_t_bad"}, zoo_t_bad="def inner():\n    1 / 0\ninner()\n"),
        build_wheel(
            folder, "zoo-hollow", "0.2", {"hollow": "zoo_t_hollow"},
            zoo_t_hollow=SOURCE.format("hollow", "zoo_t_hollow.no.where:build", ("zoo-absent>=2",)),
        ),
    ]  # fmt: skip
    pip_install(target, ["zoo-one", *wheels], links=folder)
    return target


def states(site: Path, marks: Path, *args: str, **environment: str) -> dict[str, str]:
    """state by third-party plugin; `marks` holds a file for each that was imported."""
    done = zoo(*args, "plugins", "--json", site=[site], MARKS=str(marks), **environment)
    assert done.returncode == 0, done.stderr
    return {row["name"]: row["state"] for row in json.loads(done.stdout) if row["origin"] == "entry-point"}


@pytest.mark.parametrize(
    ("args", "environment", "body", "on"),
    [
        ((), {"ZOO_PLUGINS": "one"}, "", {"one"}),
        ((), {"ZOO_PLUGINS": ""}, "", set()),
        ((), {"ZOO_DISABLE": "two, hollow"}, "", {"one"}),
        (("-p", "no:one", "-p", "no:hollow"), {}, "", {"two"}),
        ((), {}, 'disabled = ["two"]', {"one", "hollow"}),
        (("-p", "no:hollow"), {"ZOO_PLUGINS": "one,two,hollow"}, 'disabled = ["one"]', {"two"}),
        ((), {"ZOO_DISABLE": "hollow"}, 'required = ["zoo-two>=2,<3", "one==1.0"]', {"one", "two"}),
    ],
)
def test_what_is_off_is_never_imported(
    site: Path, tmp_path: Path, args: tuple[str, ...], environment: dict[str, str], body: str, on: set[str]
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    if body:
        (tmp_path / "registry.toml").write_text(f"schema = 1\n[plugins]\n{body}\n")
        args = ("--registry", str(tmp_path / "registry.toml"), *args)
    found = states(site, marks, *args, **environment)
    assert {path.name for path in marks.iterdir()} == on
    assert {name for name, state in found.items() if state == "ok"} == on


@pytest.mark.parametrize(
    ("args", "environment", "body", "says"),
    [
        (("-p", "no:tow"), {}, "", "Did you mean two?"),
        ((), {"ZOO_DISABLE": "onne"}, "", "Did you mean one?"),
        ((), {"ZOO_PLUGINS": "one,xyz"}, "", "ZOO_PLUGINS names a plugin that is not here: 'xyz'"),
        ((), {}, 'disabled = ["hallow"]', "Did you mean hollow?"),
        ((), {}, 'required = ["zoo-two>=3"]', "but version 2.5.1 is here"),
        ((), {}, 'required = ["zoo-twoo"]', "Did you mean zoo-two"),
        ((), {}, 'required = ["zoo-two >> 3"]', "registry.toml, line 3"),
        (("-p", "no:two"), {}, 'required = ["two"]', "but the plugin 'two' is off"),
        (("-p", "two"), {}, "", "Write -p no:NAME."),
    ],
)
def test_what_cannot_be_is_a_usage_error(
    site: Path, tmp_path: Path, args: tuple[str, ...], environment: dict[str, str], body: str, says: str
) -> None:
    (tmp_path / "registry.toml").write_text(f"schema = 1\n[plugins]\n{body}\n")
    done = zoo("--registry", str(tmp_path / "registry.toml"), *args, "list", site=[site], **environment)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert done.stdout == ""


def test_the_table_for_people(site: Path) -> None:
    done = zoo("plugins", site=[site])
    assert done.returncode == 0
    header, *lines = done.stdout.splitlines()
    assert header.split() == ["name", "version", "origin", "state", "gives", "import", "problem"]
    rows = {line.split()[0]: line for line in lines if line.strip()}
    assert rows["two"].split()[1:6] == ["2.5.1", "entry-point", "ok", "1", "backbone"]
    assert " ms" in rows["two"]
    assert rows["bad"].endswith("import: ZeroDivisionError: division by zero")
    assert "Traceback" not in done.stdout
    done = zoo("plugins", "-v", site=[site])
    assert "bad, at import:\nTraceback" in done.stdout
    assert "in inner" in done.stdout
    assert "zoo_t_two" in done.stdout


def test_requirements_to_carry_elsewhere(site: Path) -> None:
    done = zoo("-p", "no:two", "plugins", "--requirements", site=[site])
    assert done.returncode == 0
    own, *lines = done.stdout.splitlines()
    assert "transfer-zoo==" in own
    told = {line.lstrip("# ").split("==")[0]: line for line in lines}
    assert told["zoo-one"] == "zoo-one==1.0"
    assert told["zoo-two"].startswith("# zoo-two==2.5.1  (installed from file:///")
    assert "failed" not in told["zoo-one"]
    rows = json.loads(zoo("plugins", "--requirements", "--json", site=[site]).stdout)
    assert rows[0]["plugin"] is None
    assert {"plugin": "one", "requirement": "zoo-one==1.0", "problem": None} in rows
    assert zoo("plugins", "--requirements", "-v", site=[site]).returncode == 2


@pytest.mark.parametrize(
    ("origin", "line", "why"),
    [
        (None, "zoo-x==1.0", None),
        ({"url": "https://host/x.whl", "archive_info": {}}, "zoo-x @ https://host/x.whl", None),
        (
            {"url": "https://host/x", "vcs_info": {"vcs": "git", "commit_id": "ab12"}, "subdirectory": "sub"},
            "zoo-x @ git+https://host/x@ab12#subdirectory=sub",
            None,
        ),
        ({"url": "file:///src/x", "dir_info": {"editable": True}}, "zoo-x==1.0", "in editable mode from file:///src/x"),
        ({"url": "file:///src/x", "dir_info": {}}, "zoo-x==1.0", "installed from file:///src/x"),
        ("not json", "zoo-x==1.0", None),
        ([], "zoo-x==1.0", None),
    ],
)
def test_a_requirement_says_how_it_was_installed(origin: object, line: str, why: str | None) -> None:
    from zoo.catalog.installed import Distribution

    text = origin if origin is None or isinstance(origin, str) else json.dumps(origin)
    found, reason = Distribution("zoo-x", "1.0", "/site", (), text).requirement()
    assert found == line
    assert reason is None if why is None else why in (reason or "")


def test_checking_one_plugin(site: Path) -> None:
    done = zoo("plugins", "--check", "bad", "--json", site=[site])
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert said["error"]["code"] == "plugin"
    assert [check["check"] for check in said["checks"]] == ["loading"]
    done = zoo("plugins", "--check", "bad", "-v", site=[site])
    assert "in inner" in done.stderr
    done = zoo("plugins", "--check", "hollow", site=[site])
    assert done.returncode == 1
    assert "backbone hollow_net: the module of 'zoo_t_hollow.no.where:build' is not here" in done.stderr
    assert zoo("-p", "no:one", "plugins", "--check", "one", site=[site]).returncode == 1
    done = zoo("plugins", "--check", "onne", site=[site])
    assert done.returncode == 3
    assert "Did you mean one?" in done.stderr


def test_a_sound_plugin_is_held_to_the_whole_contract(site: Path) -> None:
    done = zoo("plugins", "--check", "one", "--json", site=[site])
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["name"], said["version"], said["ok"]) == ("one", "1.0", True)
    assert {"loading", "backbone one_net", "plugin one light-import"} <= {row["check"] for row in said["checks"]}


def test_an_editable_installation_is_one(tmp_path: Path) -> None:
    """Beside the source lies an egg-info, which the current directory brings onto the path."""
    source, target = tmp_path / "source", tmp_path / "target"
    metadata = "Metadata-Version: 2.1\nName: zoo-edit\nVersion: 1.0\n"
    for folder in (source / "zoo_edit.egg-info", target / "zoo_edit-1.0.dist-info"):
        folder.mkdir(parents=True)
        (folder / ("PKG-INFO" if folder.suffix == ".egg-info" else "METADATA")).write_text(metadata)
        (folder / "entry_points.txt").write_text("[zoo]\nedit = zoo_t_edit\n")
    (source / "zoo_t_edit.py").write_text(SOURCE.format("edit", TINY, ()))
    direct = {"url": source.as_uri(), "dir_info": {"editable": True}}
    (target / "zoo_edit-1.0.dist-info" / "direct_url.json").write_text(json.dumps(direct))
    for path in ([source, target], [target, source]):
        done = zoo("plugins", "--json", site=path)
        (row,) = [row for row in json.loads(done.stdout) if row["name"] == "edit"]
        assert (row["state"], row["problem"]) == ("ok", None)
