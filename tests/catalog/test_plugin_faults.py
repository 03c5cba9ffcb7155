"""Each fault of a plugin leaves the others working, is reported once and named where it could explain something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from catalog_kit import Gives, alone, backbone, hook, report, strategy, weights

import zoo
from zoo.errors import NotFoundError, PluginError


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
