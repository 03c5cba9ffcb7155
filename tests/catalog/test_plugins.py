"""Where plugins come from: registered objects, installed distributions, files in a folder."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from catalog_kit import GOOD, Gives, alone, backbone, hook, installed, report

from zoo.catalog.discover import in_folder
from zoo.catalog.registry import Registry
from zoo.errors import NotFoundError, UsageError
from zoo.settings import Settings

# -- registering -------------------------------------------------------------------------------------------------------


def test_register_and_unregister() -> None:
    registry = alone()
    plugin = Gives(backbone())
    assert registry.register(plugin) == "Gives"
    assert registry.backbone("tiny").plugin == "Gives"
    assert registry.register(Gives(backbone("other")), "second") == "second"
    assert len(registry.backbones()) == 2
    registry.unregister("Gives")
    assert [one.name for one in registry.backbones()] == ["other"]
    with pytest.raises(NotFoundError, match="second"):
        registry.unregister("secnd")


def test_registering_again_as_a_notebook_does_replaces() -> None:
    registry = alone()
    registry.register(Gives(backbone("old")))
    registry.register(Gives(backbone("new")))
    assert [one.name for one in registry.backbones()] == ["new"]
    with pytest.raises(UsageError, match="'Gives' is taken"):
        registry.register(type("Other", (), {}), "Gives")


def test_a_module_and_a_class_are_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    module = types.ModuleType("package.zoo_own")
    exec(GOOD.format(name="own"), module.__dict__)

    class Made(Gives):
        def __init__(self):
            super().__init__(backbone("made"))

    registry = alone()
    assert registry.register(module) == "zoo_own"
    assert registry.register(Made) == "Made"
    assert [one.full_name for one in registry.backbones()] == ["Made/made", "zoo_own/own"]


@pytest.mark.parametrize("name", ["", "a.b", "a/b", "-a"])
def test_a_plugin_name_that_cannot_be(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be named"):
        alone().register(Gives(), name)


def test_a_spec_is_stamped_without_touching_one_of_another_registry() -> None:
    spec = backbone()
    first, second = alone({"a": Gives(spec)}), alone({"b": Gives(spec)})
    assert first.backbone("tiny").plugin == "a"
    assert second.backbone("tiny").plugin == "b"
    assert first.backbone("tiny").plugin == "a"
    assert alone({"c": Gives(backbone(plugin="timm"))}).backbone("tiny").plugin == "c"


# -- installed distributions -------------------------------------------------------------------------------------------


def test_installed_plugins(install: Callable[..., Path]) -> None:
    install("zoo-good", "1.2", {"good": "zoo_t_good"}, zoo_t_good=GOOD.format(name="good"))
    install(
        "zoo-attr",
        "0.3",
        {"attr": "zoo_t_attr:plugin"},
        zoo_t_attr="class P:\n    pass\n" + GOOD.format(name="attr") + "import sys\nplugin = sys.modules[__name__]\n",
    )
    install("zoo-missing", "0.1", {"missing": "zoo_t_absent"})
    install("zoo-syntax", "0.1", {"syntax": "zoo_t_syntax"}, zoo_t_syntax="def (:\n")
    install("zoo-exit", "0.1", {"exit": "zoo_t_exit"}, zoo_t_exit="import sys; sys.exit('bye')\n")
    install("zoo-loud", "0.1", {"loud": "zoo_t_loud"}, zoo_t_loud="print('hi')\n" + GOOD.format(name="loud"))
    install("zoo-dotted", "0.1", {"dot.ted": "zoo_t_dotted"}, zoo_t_dotted=GOOD.format(name="dotted"))
    registry = installed()
    found = {one.name: one for one in registry.reports()}
    assert {name: one.state for name, one in found.items()} == {
        "attr": "ok", "dot.ted": "failed", "exit": "failed", "good": "ok", "loud": "ok", "missing": "failed",
        "syntax": "failed",
    }  # fmt: skip
    good = found["good"]
    assert (good.version, good.distribution, good.origin, good.where) == (
        "1.2",
        "zoo-good",
        "entry-point",
        "zoo_t_good",
    )
    assert good.seconds > 0
    assert found["loud"].problem == "printed to stdout at import, which is for data"
    assert "ModuleNotFoundError" in (found["missing"].problem or "")
    assert "SyntaxError" in (found["syntax"].problem or "")
    assert "sys.exit('bye')" in (found["exit"].problem or "")
    assert (found["exit"].version, found["exit"].stage) == ("0.1", "import")
    assert [one.name for one in registry.backbones()] == ["attr", "good", "loud"]
    with pytest.raises(NotFoundError) as caught:
        registry.backbone("nobody_has_it")
    assert all(f"'{name}' failed" in str(caught.value) for name in ("missing", "syntax", "exit"))


def test_an_entry_point_may_name_a_class(install: Callable[..., Path]) -> None:
    source = GOOD.format(name="made").replace(
        "@zoo.hookimpl\ndef zoo_backbones():", "class P:\n  @zoo.hookimpl\n  def zoo_backbones(self):"
    )
    install("zoo-class", "1.0", {"classy": "zoo_t_class:P"}, zoo_t_class=source)
    assert [one.full_name for one in installed().backbones()] == ["classy/made"]


def test_names_that_differ_by_a_dash_are_two(install: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("my-net", "my_net"):
        module = f"zoo_t_{'dash' if '-' in name else 'line'}"
        install(f"zoo-{module}", "1.0", {name: module}, **{module: GOOD.format(name=module)})
    for name, other in (("my-net", "my_net"), ("my_net", "my-net")):
        monkeypatch.setenv("ZOO_DISABLE", name)
        states = {one.name: one.state for one in installed().reports()}
        assert states == {name: "disabled", other: "ok"}
    assert [one.plugin for one in installed().backbones(plugin="my-net")] == ["my-net"]


def test_a_generator_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.catalog.plugins.MOST", 50)

    def zoo_backbones():
        yield from (backbone(f"net{i}") for i in itertools.count())

    found = report(alone({"endless": hook(zoo_backbones)}), "endless")
    assert (found.state, found.stage) == ("failed", "zoo_backbones")
    assert "gave more than 50 and did not end" in (found.problem or "")


def test_two_distributions_with_one_entry_point_name(install: Callable[..., Path]) -> None:
    install("zoo-second", "2.0", {"same": "zoo_t_second"}, zoo_t_second=GOOD.format(name="second"))
    install("zoo-first", "1.0", {"same": "zoo_t_first"}, zoo_t_first=GOOD.format(name="first"))
    registry = installed()
    first, second = registry.reports()
    assert (first.state, first.distribution) == ("ok", "zoo-first")
    assert (second.state, second.distribution, second.name) == ("shadowed", "zoo-second", "same")
    assert "zoo-first 1.0" in (second.problem or "")
    assert "zoo_t_second" not in sys.modules
    assert [one.name for one in registry.backbones()] == ["first"]


def test_a_distribution_that_takes_a_built_in_name(install: Callable[..., Path]) -> None:
    install("zoo-fake", "1.0", {"alexnet": "zoo_t_fake"}, zoo_t_fake=GOOD.format(name="fake"))
    registry = Registry(settings=Settings(), files=())
    states = [(one.state, one.origin) for one in registry.reports() if one.name == "alexnet"]
    assert states == [("ok", "built-in"), ("shadowed", "entry-point")]
    assert registry.backbone("alexnet").plugin == "alexnet"


def test_heavy_imports_are_named(install: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    # A stand-in: the real one may be loaded already, and then nobody can tell who did.
    monkeypatch.delitem(sys.modules, "jax", raising=False)
    folder = install("zoo-heavy", "1.0", {"heavy": "zoo_t_heavy"},
                     zoo_t_heavy="import jax\n" + GOOD.format(name="heavy"))  # fmt: skip
    (folder / "jax.py").write_text("")
    found = report(installed(), "heavy")
    sys.modules.pop("jax", None)  # monkeypatch would put the made-up module back
    assert found.state == "ok"
    assert "imported jax at import" in (found.problem or "")


# -- files in a folder -------------------------------------------------------------------------------------------------


def test_files_in_a_folder(tmp_path: Path, install: Callable[..., Path]) -> None:
    folder = tmp_path / "plugins"
    (folder / "packed").mkdir(parents=True)
    (folder / "mine.py").write_text(GOOD.format(name="mine"))
    (folder / "numpy.py").write_text(GOOD.format(name="not_numpy"))
    (folder / "packed" / "__init__.py").write_text("from .part import *\n")
    (folder / "packed" / "part.py").write_text(GOOD.format(name="packed"))
    (folder / "broken.py").write_text("1 / 0\n")
    (folder / "_hidden.py").write_text("1 / 0\n")
    (folder / "notes.txt").write_text("")
    folder.chmod(0o755)
    registry = installed(plugins_dir=folder)
    assert {one.name: one.state for one in registry.reports()} == {
        "broken": "failed", "mine": "ok", "numpy": "ok", "packed": "ok",
    }  # fmt: skip
    assert report(registry, "mine").origin == "file"
    assert [one.name for one in registry.backbones()] == ["mine", "not_numpy", "packed"]
    assert getattr(sys.modules.get("numpy"), "__file__", "") != str(folder / "numpy.py")
    assert "zoo_plugin_file_broken" not in sys.modules


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_a_folder_that_others_may_write_to(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "mine.py").write_text(GOOD.format(name="mine"))
    folder.chmod(0o755)
    assert [one.name for one in in_folder(folder)] == ["mine"]
    (folder / "mine.py").chmod(mode & 0o666)
    with pytest.raises(UsageError, match="others may write"):
        in_folder(folder)
    (folder / "mine.py").chmod(0o644)
    folder.chmod(mode)
    with pytest.raises(UsageError, match="chmod go-w"):
        alone(plugins_dir=folder).backbones()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no plugin folder"):
        alone(plugins_dir=tmp_path / "none").backbones()
