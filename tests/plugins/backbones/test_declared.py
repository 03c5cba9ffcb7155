"""What the curated plugins declare is what they build. All of it on the `meta` device: shapes, no memory."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from zoo_plugins.backbones import alexnet, cifar_resnet, resnet, source_cnn, vgg

import zoo
from zoo.catalog.targets import load
from zoo.models.network import Network
from zoo.models.stages import HEAD

SPECS = [spec for plugin in (alexnet, cifar_resnet, resnet, source_cnn, vgg) for spec in plugin.zoo_backbones()]
ONE_EACH = [
    spec
    for spec in SPECS
    if spec.name in {"alexnet", "cifar_resnet20", "resnet18", "resnet50d", "source_cnn", "vgg11", "vgg13_bn"}
]
CLASSES = {"cifar_resnet": 10, "source_cnn": 10}
#: A value other than the default for each option a curated backbone takes.
VALUES = {"dropout": 0.1, "drop_rate": 0.1, "drop_path_rate": 0.1, "global_pool": "avgmax", "output_stride": 16}


def on_meta(spec: zoo.Backbone, **options: object) -> torch.nn.Module:
    with torch.device("meta"):
        return load(spec.build)(**{"num_classes": CLASSES.get(spec.family, 1000), "in_chans": 3, **options})


def name(spec: zoo.Backbone) -> str:
    return spec.name


@pytest.mark.parametrize("spec", SPECS, ids=name)
def test_facts_are_those_of_the_built_network(spec: zoo.Backbone, facts: ModuleType) -> None:
    module = on_meta(spec)
    seen = facts.observe(module, spec.input_size, spec.head)
    assert spec.params == seen.params
    assert spec.num_features == seen.num_features
    assert spec.gmacs == seen.gmacs
    assert isinstance(module.get_submodule(spec.head), torch.nn.Linear)
    assert spec.preprocessing.input_size == spec.input_size


@pytest.mark.parametrize("spec", SPECS, ids=name)
def test_each_parameter_is_in_one_stage(spec: zoo.Backbone) -> None:
    module = on_meta(spec)
    owners = [*(module_name for names in spec.stages.values() for module_name in names), spec.head]
    assert len(set(owners)) == len(owners)
    for parameter, _ in module.named_parameters():
        assert sum(parameter == owner or parameter.startswith(f"{owner}.") for owner in owners) == 1, parameter
    stages = Network(module, spec).stages()
    assert list(stages) == [*spec.stages, HEAD]


@pytest.mark.parametrize("spec", ONE_EACH, ids=name)
def test_stages_follow_the_forward_pass_and_can_be_tapped(spec: zoo.Backbone) -> None:
    module = on_meta(spec).eval()
    order: list[str] = []
    for path, child in module.named_modules():
        child.register_forward_hook(lambda *_, path=path: order.append(path))
    image = torch.empty(2, *spec.input_size, device="meta")
    module(image)
    ends = [names[-1] for names in spec.stages.values()]
    assert sorted(ends, key=order.index) == ends
    assert all(names.index(names[-1]) == max(range(len(names)), key=lambda i: order.index(names[i])) for names in
               spec.stages.values())  # fmt: skip
    for tap in spec.stages:
        assert Network(module, spec, tap=tap).features(image).ndim == 2
    last = Network(module, spec, tap=list(spec.stages)[-1])
    assert last.features(image).shape == Network(module, spec).features(image).shape == (2, spec.num_features)


@pytest.mark.parametrize("spec", ONE_EACH, ids=name)
def test_builders_take_classes_channels_and_their_options(spec: zoo.Backbone) -> None:
    for option in spec.options:
        on_meta(spec, **{option: VALUES[option]})
    module = on_meta(spec, num_classes=7, in_chans=1).eval()
    assert module(torch.empty(2, 1, *spec.input_size[1:], device="meta")).shape == (2, 7)
    headless = on_meta(spec, num_classes=0).eval()
    assert headless(torch.empty(2, *spec.input_size, device="meta")).shape == (2, spec.num_features)
    assert Network(headless, spec).features(torch.empty(2, *spec.input_size, device="meta")).shape[1] == (
        spec.num_features
    )


def test_no_name_is_given_twice() -> None:
    assert len({spec.name for spec in SPECS}) == len(SPECS) == 32
