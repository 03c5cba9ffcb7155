"""Specs are frozen, cheap to make, and travel."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle

import pytest
from catalog_kit import backbone, strategy, weights

import zoo
from zoo.catalog.quick import quick

SPECS = [
    backbone(stages={"stem": ("conv",)}, preprocessing=zoo.Preprocessing(mean=(0.1,) * 3)),
    strategy("s", options={"a": 1}),
    weights("tiny.a", options={"b": 2}, metrics={"top1": 0.5}),
    zoo.Preprocessing(extra={"c": 3}),
    weights("tiny.b"),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: type(spec).__name__)
def test_a_spec_travels_and_stays_as_it_is(spec: object) -> None:
    again = pickle.loads(pickle.dumps(spec))
    assert again == spec
    assert type(again) is type(spec)
    assert copy.copy(spec) is copy.deepcopy(spec) is spec
    field = dataclasses.fields(spec)[0].name  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(spec, field, "other")
    assert getattr(dataclasses.replace(spec, **{field: "other"}), field) == "other"  # type: ignore[type-var]


def test_the_quick_constructor_is_the_dataclass_own() -> None:
    def made(wrap: object) -> type:
        @dataclasses.dataclass(frozen=True, slots=True)
        class Spec:
            name: str
            size: tuple[int, ...] = (1, 2)
            facts: dict[str, int] = dataclasses.field(default_factory=dict)

        return wrap(Spec)  # type: ignore[operator]

    plain, quicker = made(lambda cls: cls), made(quick)
    assert inspect.signature(plain).parameters.keys() == inspect.signature(quicker).parameters.keys()
    for args, kwargs in ((("a",), {}), (("a", (3,)), {}), ((), {"facts": {"x": 1}, "name": "b"})):
        one, two = plain(*args, **kwargs), quicker(*args, **kwargs)
        assert dataclasses.asdict(one) == dataclasses.asdict(two)
        assert repr(one) == repr(two)
        assert two == quicker(*args, **kwargs)
        assert two != quicker("z")
    for args, kwargs in (((), {}), (("a",), {"colour": 1}), (("a", (1,), {}, 4), {}), (("a",), {"name": "b"})):
        for make in (plain, quicker):
            with pytest.raises(TypeError):
                make(*args, **kwargs)
