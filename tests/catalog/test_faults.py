"""Broken plugins as pip installs them: what each costs, in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from wheels import build_wheel, pip_install, zoo

pytest.importorskip("pip")

GOOD = """
import zoo

@zoo.hookimpl
def zoo_backbones():
    yield zoo.Backbone(name="{0}_net", family="{0}", build="zoo.testing.networks:Tiny", num_features=8, params=930,
                       input_size=(3, 8, 8), head="classifier")

@zoo.hookimpl
def zoo_strategies():
    yield zoo.Strategy(name="{0}-way", kind="closed-form", make="zoo.nowhere:Way", summary="{0}.")
"""
LEAVES_A_MARK = "import os, pathlib\npathlib.Path(os.environ['MARKS'], __name__).touch()\n"


class Fault(NamedTuple):
    """A plugin, and what must become of it."""

    source: str
    state: str
    stage: str
    says: str
    requires: tuple[str, ...] = ()


def hook(body: str, name: str = "zoo_backbones", arguments: str = "") -> str:
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return f"import zoo\n\n@zoo.hookimpl\ndef {name}({arguments}):\n{lines}"


SPEC = 'zoo.Backbone(name="{}", family="f", build="a:b", num_features=8, params=9)'
FAULTS = {
    "missing": Fault("import zoo_has_no_such_module", "failed", "import", "ModuleNotFoundError: No module named"),
    "syntax": Fault("def (:\n", "failed", "import", "SyntaxError"),
    "exits": Fault("import sys\nsys.exit('bye')\n", "failed", "import", "called sys.exit('bye')"),
    "stops": Fault("class Stop(BaseException):\n    pass\nraise Stop('now')\n", "failed", "import", "Stop: now"),
    "mute": Fault(
        "class Mute(Exception):\n    def __str__(self):\n        raise ValueError\nraise Mute\n",
        "failed", "import", "Mute: its message cannot be read",
    ),
    "asks": Fault(hook("return zoo.list_backbones()"), "failed", "zoo_backbones", "asked while plugins are being"),
    "raises": Fault(hook("raise ValueError('out of luck')"), "failed", "zoo_backbones", "ValueError: out of luck"),
    "late": Fault(hook(f"yield {SPEC.format('late_net')}\nraise OSError('so')"), "failed", "zoo_backbones", "OSError"),
    "type": Fault(hook("return 7"), "failed", "zoo_backbones", "gave int, not an iterable of Backbone"),
    "item": Fault(hook("return ['resnet18']"), "failed", "zoo_backbones", "gave str where Backbone was due"),
    "invalid": Fault(hook(f"yield {SPEC.format('no.dots')}"), "failed", "zoo_backbones", "the name must match"),
    "typo": Fault(hook("return []", "zoo_bakbones"), "failed", "register", "did you mean zoo_backbones?"),
    "newer-hook": Fault(hook("return []", "zoo_quantizers"), "failed", "register", "a newer zoo than"),
    "unmarked": Fault("def zoo_backbones():\n    return []\n", "failed", "register", "no function is marked"),
    "newer-zoo": Fault(
        LEAVES_A_MARK + GOOD.format("newer"), "failed", "requires", "it needs transfer-zoo>=9",
        ("numpy", "transfer-zoo[extra]>=9; python_version >= '3'"),
    ),
    "for-extra": Fault(GOOD.format("extra"), "ok", "", "", ("Transfer_Zoo<0.1; extra == 'old'", "transfer.zoo>=0.1")),
    "dot.ted": Fault(LEAVES_A_MARK + GOOD.format("dotted"), "failed", "find", "a plugin's name must match"),
    "alexnet": Fault(LEAVES_A_MARK + GOOD.format("alex"), "shadowed", "find", "its name is taken by a built-in plugin"),
    "clash": Fault(hook(f"yield {SPEC.format('resnet18')}"), "ok", "names", "write clash/resnet18"),
    "heavy": Fault("import numpy\n" + GOOD.format("heavy"), "ok", "import", "imported numpy at import"),
    "prints": Fault("print('hello')\n" + GOOD.format("prints"), "ok", "import", "printed to stdout at import"),
    "closes": Fault("import sys\nsys.stdout.close()\n" + GOOD.format("closes"), "ok", "import", "closed stdout"),
    "below": Fault("import os\nos.write(1, b'from below')\n" + GOOD.format("below"), "ok", "", ""),
    "good": Fault(LEAVES_A_MARK + GOOD.format("good"), "ok", "", ""),
}  # fmt: skip
#: What is no fault at all.
SOUND = {name for name, fault in FAULTS.items() if (fault.state, fault.stage) == ("ok", "")}


@pytest.fixture(scope="session")
def sites(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two folders into which pip installed all of them, and some twice."""
    folder = tmp_path_factory.mktemp("wheels")
    wheels = [
        build_wheel(folder, f"zoo-{name.replace('.', '-')}", "0.3", {name: f"zoo_t_{i}"},
                    requires=fault.requires, **{f"zoo_t_{i}": fault.source})
        for i, (name, fault) in enumerate(FAULTS.items())
    ]  # fmt: skip
    for dist in ("first", "second"):
        wheels.append(
            build_wheel(folder, f"zoo-{dist}", "1.0", {"same": f"zoo_t_{dist}"},
                        **{f"zoo_t_{dist}": LEAVES_A_MARK + GOOD.format(dist)})
        )  # fmt: skip
    wheels.append(build_wheel(folder, "zoo-twice", "2.0", {"twice": "zoo_t_twice"}, zoo_t_twice=GOOD.format("new")))
    first, second = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("other-site")
    pip_install(first, wheels)
    old = tmp_path_factory.mktemp("old")
    pip_install(
        second, [build_wheel(old, "zoo-twice", "1.0", {"twice": "zoo_t_twice"}, zoo_t_twice=GOOD.format("old"))]
    )
    return [first, second, first]


@pytest.fixture(scope="session")
def torn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Damaged metadata: a plugin's, and those of a stranger. (Torch itself cannot be imported beside them.)"""
    folder = tmp_path_factory.mktemp("torn")
    for name, points in (("zoo-damaged", b"[zoo]\nno equals sign\n"), ("stranger", b"[scripts]\n\xff\xfe = a:b\n")):
        info = folder / f"{name}-0.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: {name}\nVersion: 0.1\n")
        (info / "entry_points.txt").write_bytes(points)
    garbled = folder / "zoo_garbled-0.1.dist-info"
    garbled.mkdir()
    (garbled / "METADATA").write_text("Name: zoo-garbled\nVersion: 0.1\nRequires-Dist: transfer-zoo>>1\n")
    (garbled / "entry_points.txt").write_text("[zoo]\ngarbled = zoo_t_garbled\n")
    return folder


@pytest.fixture(scope="session")
def table(sites: list[Path], torn: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """`zoo plugins --json` with every fault installed at once, by name."""
    marks = tmp_path_factory.mktemp("marks")
    done = zoo("plugins", "--json", site=[*sites, torn], MARKS=str(marks), ZOO_HOME=str(marks / "home"))
    assert done.returncode == 0, done.stderr
    found: dict[str, list[dict[str, Any]]] = {"marks": [{"name": path.name} for path in marks.iterdir()]}
    for row in json.loads(done.stdout):
        found.setdefault(row["name"], []).append(row)
    return found


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_recorded_once(table: dict[str, list[dict[str, Any]]], name: str) -> None:
    fault = FAULTS[name]
    (row,) = [row for row in table[name] if row["origin"] == "entry-point"]
    assert (row["state"], row["version"], row["distribution"]) == (
        fault.state, "0.3", f"zoo-{name.replace('.', '-')}",
    )  # fmt: skip
    if name in SOUND:
        assert (row["problem"], row["stage"]) == (None, None)
    else:
        assert fault.says in row["problem"]
        assert row["stage"] == fault.stage
        assert "\n" not in row["problem"]
    assert bool(row["gives"]) == (fault.state == "ok")


def test_names_taken_twice(table: dict[str, list[dict[str, Any]]]) -> None:
    first, second = table["same"]
    assert (first["state"], first["distribution"], first["problem"]) == ("ok", "zoo-first", None)
    assert (second["state"], second["distribution"], second["stage"]) == ("shadowed", "zoo-second", "find")
    assert second["problem"] == "its name is taken by zoo-first 1.0"
    new, old = table["twice"]
    assert (new["state"], new["version"], old["state"], old["version"]) == ("ok", "2.0", "shadowed", "1.0")
    assert old["problem"].startswith("it is installed twice: zoo-twice 2.0 in ")
    (torn,) = table["zoo-damaged"]
    assert (torn["state"], torn["stage"], torn["version"]) == ("failed", "find", "0.1")
    assert "entry_points.txt cannot be read" in torn["problem"]
    (garbled,) = table["garbled"]
    assert (garbled["state"], garbled["stage"]) == ("failed", "requires")
    assert garbled["problem"].startswith("requires: its requirement 'transfer-zoo>>1' cannot be read")


def test_what_must_not_be_imported_is_not(table: dict[str, list[dict[str, Any]]]) -> None:
    names = list(FAULTS)
    assert {row["name"] for row in table["marks"]} == {f"zoo_t_{names.index('good')}", "zoo_t_first"}


@pytest.mark.parametrize(
    "args", [["list", "*_net", "--json"], ["strategies", "--json"], ["show", "good_net", "--json"], ["plugins"], []]
)
def test_every_verb_works_with_all_of_them(sites: list[Path], torn: Path, tmp_path: Path, args: list[str]) -> None:
    done = zoo(*args, site=[*sites, torn], MARKS=str(tmp_path))
    assert done.returncode == 0, done.stderr
    if "--json" in args:
        assert "good" in json.dumps(json.loads(done.stdout))
    else:
        assert "syntax" in done.stdout
    assert "Traceback" not in done.stderr


ABSENT = [name for name, fault in FAULTS.items() if fault.state != "ok"]


@pytest.mark.parametrize(
    ("some", "args"),
    [
        (ABSENT[:7], ["show", "nobody_has_it"]),
        (ABSENT[7:14], ["pull", "late_net"]),
        (ABSENT[14:], ["fit", "digits", "-b", "good_net", "-s", "newer-way"]),
    ],
)
def test_they_are_named_where_they_could_explain(
    sites: list[Path], tmp_path: Path, some: list[str], args: list[str]
) -> None:
    done = zoo(*args, site=sites, MARKS=str(tmp_path), ZOO_PLUGINS=",".join(some))
    assert done.returncode == 3
    for name in some:
        says = FAULTS[name].says
        (line,) = [line for line in done.stderr.splitlines() if f"The plugin {name!r} " in line]
        assert f"(zoo-{name.replace('.', '-')} 0.3): " in line
        assert says in line


def test_damaged_metadata_are_named_where_a_plugin_is_missing(torn: Path) -> None:
    done = zoo("list", "--plugin", "absent", site=[torn])
    assert done.returncode == 3
    assert "The plugin 'zoo-damaged' failed (zoo-damaged 0.1): find: its entry_points.txt cannot be read" in done.stderr


@pytest.mark.parametrize("name", [*FAULTS, "same", "twice", "zoo-damaged", "garbled"])
def test_strict_raises(sites: list[Path], torn: Path, tmp_path: Path, name: str) -> None:
    done = zoo("list", "--json", site=[*sites, torn], MARKS=str(tmp_path), ZOO_PLUGINS=name, ZOO_STRICT="1")
    if name in SOUND:
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "plugin"
    assert f"plugin {name!r} (zoo-" in done.stderr
    assert name not in FAULTS or FAULTS[name].says in done.stderr


def test_a_fit_goes_on_beside_them(sites: list[Path], tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    fit = ("fit", "digits", "-b", "good_net", "-s", "linear-probe", "-w", "none", "--labels-per-class", "3", "-o", run)
    done = zoo(*fit, "--json", site=sites, MARKS=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["backbone"] == "good_net"
    record = json.loads((tmp_path / "run" / "run.json").read_text())["composition"]["backbone"]
    assert (record["plugin"], record["plugin_version"]) == ("good", "0.3")


# -- a plugin that never ends its import -------------------------------------------------------------------------------

#: The command line with a short patience.
HASTY = "import zoo.catalog.plugins as host; host.DEADLINE = 0.3; from zoo.cli import main; main()"


@pytest.fixture(scope="session")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("endless")
    forever = "import time\nwhile True:\n    time.sleep(60)\n"
    slow = "import time\ntime.sleep(0.5)\n" + GOOD.format("slow")
    pip_install(
        folder / "site",
        [
            build_wheel(folder, "zoo-endless", "0.3", {"endless": "zoo_t_endless"}, zoo_t_endless=forever),
            build_wheel(folder, "zoo-slow", "0.3", {"slow": "zoo_t_slow"}, zoo_t_slow=slow),
        ],
    )
    return folder / "site"


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_an_endless_import_is_named_while_it_lasts_and_by_ctrl_c(endless: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HASTY, "list", "--json"],
        env={**os.environ, "PYTHONPATH": str(endless)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    warning = process.stderr.readline()
    assert "plugin 'endless' (zoo-endless 0.3) has been at import for 0.3 s" in warning
    assert "zoo -p no:endless" in warning
    time.sleep(0.7)
    assert process.poll() is None, "it is never ended silently"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "The plugin 'endless' (zoo-endless 0.3) was at import" in err
    assert "for 0.3 s" not in err, "it is said once"
    assert json.loads(out)["error"]["code"] == "interrupted"


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_an_endless_import_raises_where_faults_do(endless: Path) -> None:
    done = zoo("list", "--json", site=[endless], code=HASTY, ZOO_STRICT="1")
    assert done.returncode == 1
    assert "plugin 'endless' (zoo-endless 0.3) failed at import" in done.stderr


def test_without_it_all_goes_on_and_a_slow_one_is_told(endless: Path) -> None:
    done = zoo("-p", "no:endless", "plugins", "--json", site=[endless], code=HASTY)
    assert done.returncode == 0
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["endless"]["state"] == "disabled"
    assert (rows["slow"]["state"], rows["slow"]["problem"]) == ("ok", "took more than 0.3 s at import")
    assert rows["slow"]["seconds"] >= 0.5
