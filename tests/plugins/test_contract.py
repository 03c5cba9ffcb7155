"""Every plugin of the zoo's own passes the contract that it holds others to; new ones are found by themselves."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence

import pytest
import torch

import zoo
from zoo.catalog.discover import find
from zoo.testing import Given, PluginContract, tiny

#: Backbones that are run. Of the others of these plugins only what is declared is compared, without memory. VGG's 133
#: million parameters take their time: they are run where real data is, and held to torchvision's logits everywhere.
RUNS: dict[str, Sequence[str]] = {
    "alexnet": ("alexnet",),
    "cifar_resnet": ("cifar_resnet20",),
    "resnet": ("resnet18",),
    "source_cnn": ("source_cnn",),
    "timm": (
        "mobilenetv3_small_050", "test_byobnet", "test_convnext", "test_efficientnet", "test_nfnet", "test_resnet",
        "test_vit", "vit_pwee_patch16_reg1_gap_256",
    ),
    "transformers": ("bert_tiny",),
    "vgg": ("vgg11",) if os.environ.get("ZOO_REAL_DATA") else (),
}  # fmt: skip
#: One of each kind: plain, map-less, channels last, distilled with two heads, pooled by attention, an encoder without a
#: classifier, a head of several layers.
LOOKED_AT: dict[str, Sequence[str]] = {
    "timm": (
        *RUNS["timm"], "convnext_atto", "crossvit_9_240", "deit_tiny_distilled_patch16_224", "densenet121",
        "edgenext_xx_small", "gemma4_vit_167m_enc", "inception_next_atto", "levit_128s", "poolformer_s12",
        "regnety_002", "swin_tiny_patch4_window7_224", "vit_small_patch14_dinov2",
    ),
}  # fmt: skip
#: What a strategy's checks need beside what the kit gives.
GIVEN: dict[str, Given] = {}


class Builtin(PluginContract):
    """A contract of one of the zoo's own plugins."""

    __test__ = False


BUILTINS = [one.name for one in find(entry_points=False)]
for _name in BUILTINS:
    globals()[f"Test_{_name}"] = type(
        f"Test_{_name}",
        (Builtin,),
        {
            "__test__": True,
            "__module__": __name__,
            "plugin": _name,
            "runs": RUNS.get(_name, ("*",)),
            "backbones": LOOKED_AT.get(_name, ("*",)),
            "given": GIVEN,
        },
    )


class TestTiny(PluginContract):
    """The tiny backbones, one for each shape of input."""

    plugin = tiny

    def example(self, spec: zoo.Backbone, rows: int) -> object:
        if spec.name != "tiny_pair":
            return super().example(spec, rows)
        mask = torch.ones(rows, 6)
        mask[0, 4:] = 0
        return torch.randint(0, 32, (rows, 6), generator=torch.Generator().manual_seed(0)), mask


@pytest.fixture(autouse=True)
def quiet() -> object:
    """timm warns of what only its own authors can change."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="timm")
        yield


def test_every_plugin_is_held_to_it() -> None:
    assert {"alexnet", "cifar_resnet", "resnet", "source_cnn", "timm", "vgg"} <= set(BUILTINS)
    assert {"linear_probe", "fine_tune", "distillation", "from_scratch"} <= set(BUILTINS)
