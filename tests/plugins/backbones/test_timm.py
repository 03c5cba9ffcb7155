"""The timm plugin's catalogue against timm itself."""

from __future__ import annotations

import re
import subprocess
import sys
import types

import pytest
import timm
import torch
from timm.data import resolve_data_config
from timm.models import get_pretrained_cfg
from zoo_plugins.backbones import timm as plugin
from zoo_plugins.backbones.timm import catalogue, live

import zoo
from zoo.catalog.spec import check_backbone, check_weights
from zoo.catalog.targets import load
from zoo.models.network import Network

CATALOGUE = catalogue.read()
BACKBONES = {spec.name: spec for spec in CATALOGUE.backbones()}
WEIGHTS = {weights.name: weights for weights in CATALOGUE.weights()}
#: Of the tags that want another network than their architecture's default.
SPECIAL = [weights.name for weights in WEIGHTS.values() if weights.options]
SPECIAL = [name for name in SPECIAL if "img_size" not in WEIGHTS[name].options] + SPECIAL[::12]
#: Whether all must agree. With another timm only what both know is compared.
CURRENT = timm.__version__ == CATALOGUE.timm
KNOWN = set(timm.list_models()) & set(BACKBONES)
KNOWN_TAGS = set(timm.list_pretrained()) & set(WEIGHTS)


def on_meta(spec: zoo.Backbone, num_classes: int, **options: object) -> torch.nn.Module:
    with torch.device("meta"):
        return load(spec.build)(num_classes=num_classes, in_chans=3, **options)


def on_meta_features(network: Network) -> int:
    """Width of the features as they come out."""
    with torch.device("meta"):
        return network.features(torch.empty(2, *network.preprocessing.input_size)).shape[1]


def shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def test_every_architecture_is_listed() -> None:
    assert len(BACKBONES) >= 1300
    assert len(KNOWN) >= 1000
    if CURRENT:
        assert sorted(BACKBONES) == sorted(timm.list_models())
    for name in KNOWN:
        spec = BACKBONES[name]
        assert spec.family == timm.model_entrypoint(name).__module__.rpartition(".")[2]
        assert spec.input_size == get_pretrained_cfg(name).input_size


def test_every_tag_is_listed_but_training_checkpoints() -> None:
    assert len(KNOWN_TAGS) >= 1000
    if CURRENT:
        assert set(WEIGHTS) <= set(timm.list_pretrained())
        missing = set(timm.list_pretrained()) - set(WEIGHTS)
        assert all(str(get_pretrained_cfg(name).url).endswith(".pth.tar") for name in missing)
        assert len(missing) <= 4


def test_weights_say_what_timms_configuration_says() -> None:
    for name in KNOWN_TAGS:
        weights = WEIGHTS[name]
        config = get_pretrained_cfg(name)
        expected = resolve_data_config(pretrained_cfg=config.to_dict())
        given = weights.preprocessing
        assert {key: getattr(given, key) for key in expected} == expected
        assert (weights.license, weights.num_classes) == (config.license, config.num_classes)
        assert weights.default is (get_pretrained_cfg(weights.arch).tag == weights.tag)
        if config.hf_hub_id:
            file = config.hf_hub_filename or "model.safetensors"
            assert weights.source == f"hf://{config.hf_hub_id}@main/{file}"
        else:
            assert weights.source == config.url
            assert weights.source.endswith(f"-{weights.sha256_prefix}.pth")


def test_no_tag_wants_what_the_catalogue_cannot_say() -> None:
    """An offset of labels, or a function of the model's own, would change what is loaded."""
    for name in KNOWN_TAGS:
        config = get_pretrained_cfg(name)
        assert not config.label_offset
        assert not isinstance(config.custom_load, str)


def test_specs_pass_the_checks_and_agree_with_each_other() -> None:
    for spec in BACKBONES.values():
        check_backbone(spec)
        assert spec.gmacs is None or spec.gmacs > 0
        assert spec.num_features > 0
    for weights in WEIGHTS.values():
        check_weights(weights)
        spec = BACKBONES[weights.backbone]
        assert set(weights.options) <= set(spec.options)
        assert 0 <= weights.metrics.get("top1", 50) <= 100
        assert weights.trained_on is None or re.fullmatch(r"[a-z0-9.-]+(, [a-z0-9.-]+)*", weights.trained_on)
    assert WEIGHTS["vit_base_patch16_224.augreg_in21k_ft_in1k"].trained_on == "imagenet-21k, imagenet-1k"
    assert catalogue.PATH.stat().st_size < 700_000


@pytest.mark.parametrize(
    "name", [*SPECIAL[::12], *(name for name in SPECIAL if "pretrained_cfg" in WEIGHTS[name].options)]
)
def test_options_of_a_tag_build_what_timm_builds_for_it(name: str) -> None:
    weights = WEIGHTS[name]
    spec = BACKBONES[weights.arch]
    with torch.device("meta"):
        theirs = shapes(timm.create_model(name, pretrained=False))
    assert shapes(on_meta(spec, weights.num_classes, **weights.options)) == theirs
    assert shapes(on_meta(spec, weights.num_classes)) != theirs or "img_size" in weights.options


def test_options_that_change_the_width_are_heeded() -> None:
    weights = WEIGHTS["qwen3_vit_306m_enc.qwen3_vl_4b"]
    spec = BACKBONES[weights.arch]
    for classes in (0, 3):
        module = on_meta(spec, classes, **weights.options).eval()
        network = Network(module, spec, options=weights.options, preprocessing=weights.preprocessing)
        with torch.device("meta"):
            assert network.num_features == 2560 == on_meta_features(network) != spec.num_features


@pytest.mark.parametrize("name", ["qwen3_vit_88m_enc", "mobilenetv5_300m_enc"])
def test_an_encoder_keeps_its_tensors_behind_a_classifier_of_ours(name: str) -> None:
    with torch.device("meta"):
        theirs = shapes(timm.create_model(name, pretrained=False))
    ours = shapes(on_meta(BACKBONES[name], 5))
    width = BACKBONES[name].num_features
    assert ours == {**theirs, "head.weight": (5, width), "head.bias": (5,)}


def test_an_encoder_averages_over_positions() -> None:
    from zoo_plugins.backbones.timm import encoder

    class Body(torch.nn.Module):
        head_hidden_size = 4

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    body = Body()
    body.__class__ = encoder._headed(Body)
    body.head = torch.nn.Identity()
    maps, tokens = torch.rand(2, 4, 3, 5), torch.rand(2, 9, 4)
    assert torch.equal(body(maps), maps.mean(dim=(2, 3)))
    assert torch.equal(body(tokens), tokens.mean(dim=1))


# -- names that the catalogue lacks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "deit_tiny_distilled_patch16_224", "mobilenetv3_small_050"])
def test_a_live_spec_has_the_catalogues_facts(name: str) -> None:
    found, listed = live.find(name, "0.9.0"), BACKBONES[name]
    for key in ("name", "family", "build", "num_features", "params", "input_size", "head", "preprocessing"):
        assert getattr(found, key) == getattr(listed, key), key
    assert found.summary == f"Found in timm {timm.__version__}; the catalogue describes timm 0.9.0."
    check_backbone(found)


def test_models_of_your_own_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from timm.models import _registry

    def my_resnet(pretrained: bool = False, **kwargs: object) -> torch.nn.Module:
        return timm.models.resnet18(pretrained=pretrained, **kwargs)

    monkeypatch.setitem(_registry._model_entrypoints, "my_resnet", my_resnet)
    spec = plugin.zoo_find_backbone("my_resnet")
    assert (spec.num_features, spec.params, spec.head) == (512, 11_689_512, "fc")
    assert spec.build is my_resnet
    assert plugin.zoo_find_backbone("no_such_model") is None


def test_another_timm_is_asked_for_what_the_catalogue_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setitem(sys.modules, "zoo_plugins.backbones.timm.live", types.SimpleNamespace(
        find=lambda name, made_for: asked.append((name, made_for))
    ))  # fmt: skip
    monkeypatch.setattr(plugin, "live", sys.modules["zoo_plugins.backbones.timm.live"], raising=False)
    monkeypatch.delitem(sys.modules, "timm")
    for version, expected in ((CATALOGUE.timm, 0), (None, 0), ("99.0", 1)):
        monkeypatch.setattr(catalogue, "installed", lambda version=version: version)
        plugin.zoo_find_backbone("future_net")
        assert len(asked) == expected
    assert asked == [("future_net", CATALOGUE.timm)]


def test_a_catalogue_of_another_schema_is_refused(tmp_path) -> None:
    path = tmp_path / "catalogue.json"
    path.write_text('{"schema": 1}')
    with pytest.raises(ValueError, match="schema 1, not 2"):
        catalogue.read(path)


def test_plugins_import_nothing_heavy_to_list() -> None:
    code = """
import importlib, sys
for name in ("alexnet", "cifar_resnet", "resnet", "source_cnn", "timm", "vgg"):
    plugin = importlib.import_module(f"zoo_plugins.backbones.{name}")
    assert list(plugin.zoo_backbones())
    for hook in ("zoo_weights", "zoo_find_backbone"):
        if hasattr(plugin, hook):
            list(getattr(plugin, hook)(*(["none_such"] if "find" in hook else [])) or ())
heavy = {"torch", "timm", "torchvision", "numpy", "huggingface_hub", "rich"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
