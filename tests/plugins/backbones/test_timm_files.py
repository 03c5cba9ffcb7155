"""Files in other names than timm's own: loaded as timm itself loads them, through the same translation."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor
from zoo_plugins.backbones.timm import catalogue, live

from zoo.catalog.targets import load
from zoo.errors import IntegrityError
from zoo.models.load import load_network

SPECS = {spec.name: spec for spec in catalogue.read().backbones()}
State = dict[str, Tensor]


def swin(state: State) -> State:
    """The original release: layers counted otherwise, and masks saved."""
    old = {re.sub(r"layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", k): v
           for k, v in state.items()}  # fmt: skip
    old = {name.replace("head.fc.", "head."): tensor for name, tensor in old.items()}
    return {**old, "layers.0.blocks.0.attn.relative_position_index": torch.zeros(49, 49, dtype=torch.int64)}


def deit3(state: State) -> State:
    return {re.sub(r"ls([12])\.gamma", r"gamma_\1", name): tensor for name, tensor in state.items()}


def crossvit(state: State) -> State:
    return {re.sub(r"^(pos_embed|cls_token)_", r"\1.", name): tensor for name, tensor in state.items()}


def vgg(state: State) -> State:
    """torchvision's names, and its linear layers."""
    for old, new in (
        ("classifier.0", "pre_logits.fc1"),
        ("classifier.3", "pre_logits.fc2"),
        ("classifier.6", "head.fc"),
    ):
        state = {name.replace(new, old): tensor for name, tensor in state.items()}
    return {name: t.flatten(1) if name.startswith("classifier") and t.ndim > 1 else t for name, t in state.items()}


def open_clip(state: State) -> State:
    """A tower for text beside the one for pictures."""
    seen = {f"visual.trunk.{name}": tensor for name, tensor in state.items()}
    return {**seen, "text.token_embedding.weight": torch.ones(9, 4), "logit_scale": torch.ones(())}


def densenet(state: State) -> State:
    """Of a time without batch counters."""
    old = {re.sub(r"(denselayer\d+)\.(norm|conv)(\d)", r"\1.\2.\3", name): tensor for name, tensor in state.items()}
    return {name: tensor for name, tensor in old.items() if not name.endswith("num_batches_tracked")}


CASES: dict[str, Callable[[State], State]] = {
    "swin_tiny_patch4_window7_224": swin,
    "deit3_small_patch16_224": deit3,
    "crossvit_tiny_240": crossvit,
    "vit_tiny_patch16_224": open_clip,
    "densenet121": densenet,
}


def small(name: str, **options: object) -> torch.nn.Module:
    torch.manual_seed(2)
    return timm.create_model(name, num_classes=1000, **options)


def timms(name: str, path: Path, **options: int) -> State:
    """What timm's own loading makes of the file."""
    return timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(path)}, **options).state_dict()


@pytest.mark.parametrize("name", CASES)
def test_equal_to_timms_own_translation(name: str, tmp_path: Path) -> None:
    path = tmp_path / "old.safetensors"
    save_file({k: v.contiguous().clone() for k, v in CASES[name](small(name).state_dict()).items()}, path)
    theirs = timms(name, path)
    network = load_network(SPECS[name], None, path)
    ours = network.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    # One channel, other classes: all but the new head as timm does it.
    changed = {"in_chans": 1, "num_classes": 7}
    theirs = timm.create_model(
        name, pretrained=True, pretrained_cfg_overlay={"file": str(path)}, **changed
    ).state_dict()
    network = load_network(SPECS[name], None, path, **changed)
    for key, tensor in network.state_dict().items():
        assert tensor.shape == theirs[key].shape
        if not key.startswith(network.head_names):
            assert torch.equal(tensor, theirs[key]), key


def test_torchvisions_vgg(tmp_path: Path) -> None:
    """Built on `meta` alone: the names and shapes that arrive are the network's."""
    from zoo.models.translate import foresee
    from zoo.weights.header import TensorInfo

    with torch.device("meta"):
        module = timm.create_model("vgg11")
        old = vgg(module.state_dict())
    infos = {name: TensorInfo("F32", tuple(tensor.shape), 0, 0) for name, tensor in old.items()}
    found = foresee(SPECS["vgg11"], infos, module)
    assert {name: info.shape for name, info in found.items()} == {
        name: tuple(tensor.shape) for name, tensor in module.state_dict().items()
    }


def test_what_is_still_missing_after_the_translation_is_said(tmp_path: Path) -> None:
    path = tmp_path / "old.safetensors"
    state = swin(small("swin_tiny_patch4_window7_224").state_dict())
    del state["norm.weight"]
    save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, path)
    with pytest.raises(IntegrityError) as caught:
        load_network(SPECS["swin_tiny_patch4_window7_224"], None, path)
    assert caught.value.why.splitlines() == ["  missing: norm.weight [768]"]


def test_every_translator_can_be_found() -> None:
    targets = {spec.translate for spec in SPECS.values()}
    assert len(targets) >= 60
    assert all(callable(load(target)) for target in targets if target is not None)


def test_a_live_spec_translates_too() -> None:
    assert live.find("swin_tiny_patch4_window7_224", "0.9.0").translate is load(
        SPECS["swin_tiny_patch4_window7_224"].translate
    )
    assert live.find("resnet18", "0.9.0").translate is None


def test_translators_of_the_plugins_own() -> None:
    from zoo_plugins.backbones.timm import translate

    with torch.device("meta"):
        gap = timm.create_model("vit_base_patch16_siglip_gap_224", num_classes=0)
        florence = timm.create_model("davit_base_fl")
    state = {**gap.state_dict(), "attn_pool.latent": torch.zeros(1, 1, 768)}
    assert translate.siglip_gap(state, gap).keys() == gap.state_dict().keys()
    state = florence.state_dict()
    shapes = {name: tensor.shape for name, tensor in state.items()}
    del state["head.norm.weight"], state["head.norm.bias"]
    found = translate.davit_fl(state, florence)
    assert {name: tensor.shape for name, tensor in found.items()} == shapes
    assert torch.equal(found["head.norm.weight"], torch.ones(shapes["head.norm.weight"]))
