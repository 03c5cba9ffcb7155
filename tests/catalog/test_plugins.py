"""Each fault of a plugin leaves the others working, is reported once and named where it could explain something."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from catalog_kit import Gives, alone, backbone, strategy, weights

import zoo
from zoo.catalog.discover import in_folder
from zoo.catalog.loaded import PluginReport
from zoo.catalog.registry import Registry
from zoo.errors import NotFoundError, PluginError, RegistryError, UsageError
from zoo.settings import Settings

GOOD = """
import zoo
@zoo.hookimpl
def zoo_backbones():
    yield zoo.Backbone(name="{name}", family="f", build="a:b", num_features=1, params=1)
"""


def report(registry: Registry, name: str) -> PluginReport:
    return {one.name: one for one in registry.reports() if one.state != "shadowed"}[name]


def hook(function: Callable[..., Any]) -> Any:
    """A plugin of one hook."""
    return type("Plugin", (), {function.__name__: staticmethod(zoo.hookimpl(function))})()


def faults() -> dict[str, tuple[Any, str, str]]:
    """fault -> (plugin, stage, what is said)"""

    def raises():
        def zoo_backbones():
            raise ValueError("out of\nluck")

        return hook(zoo_backbones)

    def late():
        def zoo_backbones():
            yield backbone("good")
            raise OSError("late")

        return hook(zoo_backbones)

    def exits():
        def zoo_backbones():
            raise SystemExit(3)

        return hook(zoo_backbones)

    def gives(result: Any, name: str = "zoo_backbones"):
        function = lambda: result  # noqa: E731
        function.__name__ = name
        return hook(function)

    def wrong_argument():
        def zoo_backbones(surprise):
            return []

        return hook(zoo_backbones)

    def wrapper():
        return type("P", (), {"zoo_backbones": staticmethod(zoo.hookimpl(wrapper=True)(lambda: (yield)))})()

    def typo():
        def zoo_bakcbones():
            return []

        return hook(zoo_bakcbones)

    def fails_when_closed():
        def zoo_backbones():
            try:
                yield 7
            finally:
                raise RuntimeError("too late")

        return hook(zoo_backbones)

    class Unmarked:
        def zoo_backbones(self):
            return [backbone("good")]

    class HookTwice(Gives):
        @zoo.hookimpl(specname="zoo_backbones")
        def zoo_more(self):
            return [backbone("good")]

    class MadeBroken:
        def __init__(self):
            raise RuntimeError("not today")

    return {
        "raises": (raises(), "zoo_backbones", "ValueError: out of luck"),
        "late": (late(), "zoo_backbones", "OSError: late"),
        "exits": (exits(), "zoo_backbones", "sys.exit(3)"),
        "none": (gives(None), "zoo_backbones", "gave NoneType, not an iterable of Backbone"),
        "one": (gives(backbone()), "zoo_backbones", "gave Backbone, not an iterable"),
        "number": (gives(7), "zoo_backbones", "gave int"),
        "other-type": (gives([strategy("s")]), "zoo_backbones", "gave Strategy where Backbone was due"),
        "text": (gives("tiny"), "zoo_backbones", "gave str where Backbone"),
        "twice": (gives([backbone(), backbone()]), "zoo_backbones", "'tiny' twice"),
        "name": (gives([backbone("a.b")]), "zoo_backbones", "must match"),
        "name-type": (gives([backbone(3)]), "zoo_backbones", "must match"),
        "build": (gives([backbone(build="nowhere")]), "zoo_backbones", "build must be a callable"),
        "features": (gives([backbone(num_features=0)]), "zoo_backbones", "num_features must be a whole number"),
        "params": (gives([backbone(params=1.5)]), "zoo_backbones", "params must be a whole number"),
        "size": (gives([backbone(input_size=[3, 2, 2])]), "zoo_backbones", "input_size must be a tuple"),
        "options": (gives([backbone(options="depth")]), "zoo_backbones", "options must be a tuple"),
        "preprocessing": (gives([backbone(preprocessing={})]), "zoo_backbones", "preprocessing must be Preprocessing"),
        "vast": (gives([backbone(params=10**400)]), "zoo_backbones", "params must be a whole number"),
        "head": (gives([backbone(head=float("nan"))]), "zoo_backbones", "head must be str, not float"),
        "paper": (gives([backbone(paper=7)]), "zoo_backbones", "paper must be str, not int"),
        "gmacs": (gives([backbone(gmacs=float("nan"))]), "zoo_backbones", "gmacs must be a number"),
        "stages": (gives([backbone(stages={"stem": "conv"})]), "zoo_backbones", "stages must map names to tuples"),
        "summary": (gives([strategy("s", summary=7)], "zoo_strategies"), "zoo_strategies", "summary must be str"),
        "needs": (gives([strategy("s", needs=7)], "zoo_strategies"), "zoo_strategies", "needs must be a tuple"),
        "option-name": (gives([strategy("s", options={7: 1})], "zoo_strategies"), "zoo_strategies", "7 is 1"),
        "option": (gives([strategy("s", options={"a": [print]})], "zoo_strategies"), "zoo_strategies", "is [<built"),
        "option-nan": (gives([strategy("s", options={"a": 1e999})], "zoo_strategies"), "zoo_strategies", "'a' is inf"),
        "clean-up": (fails_when_closed(), "zoo_backbones", "RuntimeError: too late"),
        "kind": (gives([strategy("s", kind="magic")], "zoo_strategies"), "zoo_strategies", "kind must be"),
        "make": (gives([strategy("s", make=None)], "zoo_strategies"), "zoo_strategies", "make must be"),
        "tag": (gives([weights("tiny")], "zoo_weights"), "zoo_weights", "name's tag"),
        "of": (gives([weights("tiny.a", backbone="x")], "zoo_weights"), "zoo_weights", "must be named x.TAG"),
        "hash": (gives([weights("tiny.a", sha256="../x")], "zoo_weights"), "zoo_weights", "sha256 must be 64"),
        "ledger": (gives(["/nowhere/registry.toml"], "zoo_weights"), "zoo_weights", "no registry file"),
        "argument": (wrong_argument(), "register", "surprise"),
        "wrapper": (wrapper(), "register", "wrapper"),
        "typo": (typo(), "register", "unknown hook zoo_bakcbones (did you mean zoo_backbones?)"),
        "unmarked": (Unmarked(), "register", "no function is marked with @zoo.hookimpl (zoo_backbones is not)"),
        "hook-twice": (HookTwice(), "register", "zoo_backbones is implemented twice"),
        "empty": (object(), "register", "no function is marked"),
        "made-broken": (MadeBroken, "import", "RuntimeError: not today"),
    }  # fmt: skip


@pytest.mark.parametrize("fault", faults())
def test_a_fault_stays_with_its_plugin(fault: str) -> None:
    plugin, stage, says = faults()[fault]
    registry = alone({"aa": Gives(backbone("first")), "broken": plugin, "zz": Gives(strategy("last"))})
    found = report(registry, "broken")
    assert (found.state, found.stage) == ("failed", stage)
    assert says in (found.problem or "")
    assert "\n" not in (found.problem or "")
    assert (found.traceback or "").startswith("Traceback")
    assert found.gives == {}
    assert [one.name for one in registry.reports()] == ["aa", "broken", "zz"]
    assert [one.name for one in registry.backbones()] == ["first"]
    assert [one.name for one in registry.strategies()] == ["last"]
    for ask in (registry.backbone, registry.strategy, registry.find, registry.resolve):
        with pytest.raises(NotFoundError, match="'broken' failed"):
            ask("good")


@pytest.mark.parametrize("fault", faults())
def test_strict_raises(fault: str) -> None:
    plugin, stage, _ = faults()[fault]
    registry = alone({"broken": plugin}, strict=True)
    with pytest.raises(PluginError, match=f"'broken' failed at {stage}") as caught:
        registry.backbones()
    assert caught.value.__cause__ is not None


def test_one_bad_spec_loses_the_whole_batch_and_no_other() -> None:
    registry = alone({"half": Gives(backbone("good"), weights("good.a"), strategy("s", kind="magic"))})
    assert registry.backbones() == []
    assert registry.weights() == []
    assert report(registry, "half").gives == {}


def test_several_unknown_hooks_are_all_named() -> None:
    names = ("zoo_bakcbones", "zoo_frobnicate")
    plugin = type("P", (), {name: staticmethod(zoo.hookimpl(lambda: iter(()))) for name in names})
    problem = report(alone({"p": plugin}), "p").problem or ""
    assert all(name in problem for name in names)


def test_an_optional_hook_may_be_unknown() -> None:
    class Newer:
        @zoo.hookimpl(optionalhook=True)
        def zoo_from_the_future(self):
            return []

    assert report(alone({"newer": Newer()}), "newer").state == "ok"


def test_a_forgotten_mark_beside_a_marked_hook_is_said() -> None:
    class Half(Gives):
        def zoo_composed(self, learner):
            raise AssertionError

    found = report(alone({"half": Half(backbone())}), "half")
    assert found.state == "ok"
    assert "zoo_composed is not marked" in (found.problem or "")


def test_what_is_printed_is_kept_from_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    def zoo_backbones():
        print("hello")
        return [backbone()]

    registry = alone({"loud": hook(zoo_backbones)})
    found = report(registry, "loud")
    assert (found.state, found.gives) == ("ok", {"backbones": 1})
    assert found.problem == "printed to stdout at zoo_backbones, which is for data"
    assert capsys.readouterr().out == ""


def test_keyboard_interrupt_is_not_swallowed() -> None:
    def zoo_backbones():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        alone({"p": hook(zoo_backbones)}).backbones()


def test_telling_never_stops_the_caller(capsys: pytest.CaptureFixture[str]) -> None:
    heard = []

    class Listener:
        @zoo.hookimpl
        def zoo_epoch_end(self, epoch, metrics):
            print("epoch", epoch)
            heard.append((epoch, metrics))

    calls = []

    class Broken(Gives):
        @zoo.hookimpl
        def zoo_epoch_end(self, learner):
            calls.append(learner)
            raise ValueError("no")

        @zoo.hookimpl
        def zoo_composed(self):
            raise KeyError("neither")

    registry = alone({"broken": Broken(backbone()), "listener": Listener()})
    for epoch in (1, 2):
        registry.tell("zoo_epoch_end", learner="L", epoch=epoch, metrics={"loss": 1.0})
    registry.tell("zoo_composed", learner="L")
    assert heard == [(1, {"loss": 1.0}), (2, {"loss": 1.0})]
    assert calls == ["L"]
    found = report(registry, "broken")
    assert (found.state, found.stage) == ("failed", "zoo_epoch_end")
    assert found.problem == "zoo_epoch_end: ValueError: no; zoo_composed: KeyError: 'neither'"
    assert [one.name for one in registry.backbones()] == ["tiny"]
    out, err = capsys.readouterr()
    told = "note: The plugin 'broken' failed and is told no more: "
    assert out == ""
    assert err.splitlines() == [
        f"{told}zoo_epoch_end: ValueError: no", "epoch 1", "epoch 2", f"{told}zoo_composed: KeyError: 'neither'"
    ]  # fmt: skip
    assert report(registry, "listener").gives == {"zoo_epoch_end": 1}


def test_fetchers(tmp_path: Path) -> None:
    class Zap:
        @zoo.hookimpl
        def zoo_fetch(self, target, weights):
            target.write_text(weights.source)
            return True

    class Refuses:
        @zoo.hookimpl
        def zoo_fetch(self, weights):
            return None

    class Broken:
        @zoo.hookimpl
        def zoo_fetch(self, weights):
            raise OSError("gone")

    fetchers = dict(alone({"zap": Zap(), "refuses": Refuses(), "broken": Broken()}).fetchers())
    spec = weights("tiny.a", source="zap:1")
    assert fetchers["zap"](spec, tmp_path / "w") is True
    assert (tmp_path / "w").read_text() == "zap:1"
    assert fetchers["refuses"](spec, tmp_path / "w") is False
    with pytest.raises(PluginError, match="'broken' failed to fetch zap:1"):
        fetchers["broken"](spec, tmp_path / "w")


def test_a_backbone_found_only_when_asked() -> None:
    asked = []

    class Finder:
        @zoo.hookimpl
        def zoo_find_backbone(self, name):
            asked.append(name)
            return backbone(name) if name.startswith("on_demand") else None

    registry = alone({"finder": Finder(), "other": Gives(backbone("listed"), weights("on_demand1.w", default=True))})
    assert registry.backbone("listed").plugin == "other"
    assert asked == []
    found, chosen = registry.resolve("on_demand1")
    assert (found.plugin, chosen.name if chosen else None) == ("finder", "on_demand1.w")
    assert registry.backbone("finder/on_demand2").full_name == "finder/on_demand2"
    assert registry.backbone("on_demand1") is found
    assert asked == ["on_demand1", "on_demand2"]
    with pytest.raises(NotFoundError):
        registry.backbone("other/on_demand3")
    with pytest.raises(NotFoundError):
        registry.backbone("nobody")
    assert [one.name for one in registry.backbones("on_*")] == ["on_demand1", "on_demand2"]


@pytest.mark.parametrize("answer", [7, backbone("another"), backbone("good", params=-1)])
def test_a_finder_that_answers_wrongly(answer: Any) -> None:
    def zoo_find_backbone(name):
        return answer

    registry = alone({"finder": hook(zoo_find_backbone)})
    with pytest.raises(NotFoundError, match="'finder' failed: zoo_find_backbone"):
        registry.backbone("good")


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


def installed(**settings: Any) -> Registry:
    return Registry(settings=Settings(**settings), builtins=False, files=())


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


# -- filters -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def two(install: Callable[..., Path]) -> None:
    install("zoo-one", "1.0", {"one": "zoo_t_one"}, zoo_t_one=GOOD.format(name="one"))
    install("zoo-two", "2.5.1", {"two": "zoo_t_two"}, zoo_t_two=GOOD.format(name="two"))


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    ("environment", "off"),
    [
        ({"ZOO_PLUGINS": "one"}, {"two"}),
        ({"ZOO_PLUGINS": ""}, {"one", "two"}),
        ({"ZOO_PLUGINS": "one,two", "ZOO_DISABLE": "two"}, {"two"}),
        ({"ZOO_DISABLE": "one, two"}, {"one", "two"}),
        ({"ZOO_DISABLE": "alexnet,cifar-resnet"}, {"alexnet", "cifar_resnet"}),
    ],
)
def test_what_is_off_is_never_imported(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], off: set[str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    registry = Registry(files=())
    assert {one.name for one in registry.reports() if one.state == "disabled"} == off
    assert all(f"zoo_t_{name}" not in sys.modules for name in off)
    assert registry.backbone("resnet18").plugin == "resnet"
    with pytest.raises(NotFoundError, match=f"'{min(off)}' is off"):
        registry.backbone("nobody_has_it")


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize("variable", ["ZOO_PLUGINS", "ZOO_DISABLE"])
def test_an_unknown_name_in_a_filter(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "tvo")
    with pytest.raises(UsageError) as caught:
        installed().backbones()
    assert variable in caught.value.message
    assert "two" in (caught.value.hint or "")
    assert caught.value.exit_code == 2


def _file(tmp_path: Path, body: str) -> Path:
    path = tmp_path / "registry.toml"
    path.write_text(f"schema = 1\n[plugins]\n{body}\n")
    return path


@pytest.mark.usefixtures("two")
def test_a_registry_file_turns_plugins_off(tmp_path: Path) -> None:
    path = _file(tmp_path, 'disabled = ["two"]')
    registry = Registry(builtins=False, files=[path])
    assert [one.name for one in registry.backbones()] == ["one"]
    assert str(path) in (report(registry, "two").problem or "")
    with pytest.raises(RegistryError, match=r"registry\.toml.*'too'"):
        Registry(builtins=False, files=[_file(tmp_path, 'disabled = ["too"]')]).backbones()


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize("required", ["zoo-two", "zoo_two>=2", "two>=2.5,<3", "ZOO.Two", "alexnet"])
def test_a_requirement_that_is_met(tmp_path: Path, required: str) -> None:
    registry = Registry(files=[_file(tmp_path, f'required = ["{required}"]')])
    assert registry.backbone("two").plugin == "two"


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    ("body", "says", "hint"),
    [
        ('required = ["zoo-lora>=0.3"]', "not installed", "pip install 'zoo-lora>=0.3'"),
        ('required = ["zoo-tow"]', "not installed", "zoo-two"),
        ('required = ["zoo-two>=3"]', "version 2.5.1 is here", "pip install 'zoo-two>=3'"),
        ('required = ["two"]\ndisabled = ["two"]', "is off", None),
    ],
)
def test_a_requirement_that_is_not_met(tmp_path: Path, body: str, says: str, hint: str | None) -> None:
    with pytest.raises(RegistryError, match=says) as caught:
        Registry(builtins=False, files=[_file(tmp_path, body)]).backbones()
    assert "registry.toml" in caught.value.message
    assert hint is None or hint in (caught.value.hint or "")


def test_a_required_plugin_that_failed(tmp_path: Path, install: Callable[..., Path]) -> None:
    install("zoo-bad", "1.0", {"bad": "zoo_t_bad"}, zoo_t_bad="1 / 0\n")
    registry = Registry(builtins=False, files=[_file(tmp_path, 'required = ["zoo-bad"]')])
    assert report(registry, "bad").state == "failed"
    with pytest.raises(PluginError, match="requires the plugin 'bad'"):
        registry.backbones()
