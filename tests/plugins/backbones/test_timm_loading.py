"""The smallest network of most families of timm: loaded equal, bit for bit, to timm's own strict loading.

`tools/check_timm_loading.py` does the same for every architecture.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from zoo_plugins.backbones.timm import catalogue

SMALLEST = (
    "convit_tiny", "convnext_zepto_rms", "crossvit_tiny_240", "cs3darknet_focus_s", "cspnext_tiny",
    "deit_tiny_patch16_224",
    "dla46x_c", "edgenext_xx_small", "efficientvim_m1", "efficientvit_b0", "efficientvit_m0",
    "ese_vovnet19b_slim_dw", "fasternet_t0", "fastvit_t8", "ghostnet_050", "gmlp_ti16_224", "hardcorenas_b",
    "hgnetv2_b0", "iformer_t", "inception_next_atto", "lcnetv2_small", "levit_128s", "mambaout_femto",
    "cpubone_nano",
    "mobilenetv2_035", "mobilenetv3_small_050", "mobileone_s1", "mobilevit_xxs", "nf_regnet_b0", "pit_ti_224",
    "pvt_v2_b0", "regnetx_002", "repghostnet_050", "resnet10t", "rexnet_100", "shvit_s1", "starnet_s050",
    "swiftformer_xs", "test_resnet", "visformer_tiny", "vit_tiny_patch16_224", "vit_tiny_r_s16_p8_224",
)  # fmt: skip
SPECS = {spec.name: spec for spec in catalogue.read().backbones()}


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    path = Path(__file__).parents[3] / "tools" / "check_timm_loading.py"
    spec = importlib.util.spec_from_file_location("zoo_tools_check_timm_loading", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_they_are_of_many_families() -> None:
    assert len({SPECS[name].family for name in SMALLEST}) >= 40


@pytest.mark.parametrize("name", SMALLEST)
def test_equal_to_timms_own_loading(name: str, tool: ModuleType, tmp_path: Path) -> None:
    torch.manual_seed(0)
    record = tool.check(SPECS[name], tmp_path, limit_gmacs=2)
    assert record["differences"] == []
    assert record["adapted"] == "equal"  # one channel, other classes
    assert record["filter"] in ("none", "same")
    assert record["output"] == "equal"


def test_the_comparison_sees_what_differs(tool: ModuleType) -> None:
    theirs, ours = torch.nn.BatchNorm2d(3), torch.nn.BatchNorm2d(3)
    assert tool.differences(tool.held(ours), tool.held(theirs)) == []
    ours.running_mean[1] = 1e-30
    ours.weight.requires_grad_(False)
    ours.extra = [torch.ones(1)]
    assert tool.differences(tool.held(ours), tool.held(theirs)) == [
        ".running_mean: other values", ".weight: cannot be trained", "only we have .extra[0]",
    ]  # fmt: skip
