"""The fused copy of a network: the same features, whatever the layers are called, and the network as it was."""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import zoo
from zoo.models import fused
from zoo.models.fused import PackedConv, fuse, round_filters
from zoo.models.network import Network

pytestmark = pytest.mark.skipif(not fused.available(), reason="this processor has no bf16 convolutions")


def randomised(network: Network) -> Network:
    """With statistics and scales that folding must get right."""
    torch.manual_seed(0)
    with torch.no_grad():
        for layer in network.module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_(0, 0.2)
                layer.running_var.uniform_(0.5, 2)
                if layer.weight is not None:
                    layer.weight.uniform_(0.5, 1.5)
                    layer.bias.normal_(0, 0.2)
    return network


def packed(network: Network) -> int:
    return sum(isinstance(layer, PackedConv) for layer in network.module.modules())


def bf16(network: Network, x: Tensor) -> Tensor:
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        return network.features(x).float()


def cosine(a: Tensor, b: Tensor) -> float:
    return float(nn.functional.cosine_similarity(a, b).min())


@pytest.mark.parametrize(
    ("name", "size", "options"),
    [
        ("resnet18", 64, {}),
        ("mobilenetv2_100", 64, {}),
        ("mobilenetv2_100", 65, {"pad_type": "same"}),
    ],
)
def test_the_same_features(name: str, size: int, options) -> None:
    import timm

    torch.manual_seed(0)
    module = timm.create_model(name, num_classes=3, **options).eval()
    network = randomised(Network(module))
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    layers = [type(layer) for layer in network.module.modules()]
    x = torch.randn(4, 3, size, size)
    with torch.inference_mode():
        expected = network.features(x)
    twin = fuse(network, x[:1])
    assert twin is not None
    assert packed(twin) >= 8
    found = bf16(twin, x)
    assert cosine(found, expected) > 0.999
    assert (found - expected).norm() <= 1.2 * (bf16(network, x) - expected).norm()
    # Frozen means frozen.
    assert [type(layer) for layer in network.module.modules()] == layers
    assert all(torch.equal(before[key], tensor) for key, tensor in network.state_dict().items())


class Tangled(nn.Module):
    """Everything that looks like a chain and is none."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.conv, self.other = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.Conv2d(8, 8, 3, padding=1)
        self.norm, self.relu = nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        self.fc = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = raw = self.conv(x)
        if self.kind == "in place":  # what the BatchNorm gave is written to before the activation
            x = self.norm(x)
            x += x.mean()
            x = self.relu(x)
        elif self.kind == "twice":  # one activation behind two layers
            x = self.relu(self.other(self.relu(self.norm(x))))
        elif self.kind == "read elsewhere":
            x = self.relu(self.norm(x)) + raw
        return self.fc(x.mean(dim=(2, 3)))


@pytest.mark.parametrize("kind", ["in place", "twice", "read elsewhere"])
def test_what_only_looks_like_a_chain(kind: str) -> None:
    torch.manual_seed(0)
    network = randomised(Network(Tangled(kind).eval()))
    x = torch.randn(4, 3, 16, 16)
    with torch.inference_mode():
        expected = network.features(x)
    twin = fuse(network, x[:1])
    assert (twin is None) == (kind == "read elsewhere")
    if twin is not None:
        assert cosine(bf16(twin, x), expected) > 0.999


def test_a_convolution_too_large_to_pack_runs_as_it_is(monkeypatch) -> None:
    monkeypatch.setattr(fused, "_HEAVY", 300)
    torch.manual_seed(0)
    network = randomised(Network(Tangled("twice").eval()))
    x = torch.randn(4, 3, 16, 16)
    with torch.inference_mode():
        expected = network.features(x)
    twin = fuse(network, x[:1])
    assert twin is not None
    assert packed(twin) == 1
    assert cosine(bf16(twin, x), expected) > 0.999


def test_a_layer_that_cannot_be_copied_runs_as_it_is() -> None:
    class Stubborn(Tangled):
        def __deepcopy__(self, memo):
            raise RuntimeError("no")

    assert fuse(Network(Stubborn("twice").eval()), torch.randn(1, 3, 16, 16)) is None


def test_rounding_keeps_the_sum_of_each_filter() -> None:
    weight = torch.randn(6, 5, 3, 3, generator=torch.Generator().manual_seed(0))
    found = round_filters(weight)
    assert torch.equal(found, found.bfloat16().float())
    nearest = weight.bfloat16().float()
    sums = [(part - weight).flatten(1).sum(1).abs().max() for part in (found, nearest)]
    assert sums[0] < sums[1] / 20
    assert (found - weight).abs().max() <= 4 * (nearest - weight).abs().max()
    assert torch.equal(round_filters(nearest), nearest)
    long = torch.randn(2, 2000)
    assert torch.equal(round_filters(long), long.bfloat16().float())


class Deep(nn.Module):
    """Stem of 8 channels, then `more` convolutions of 32 with BatchNorm and ReLU6, the second of `neck`."""

    def __init__(self, more: int, norm: Callable[[int], nn.Module] = nn.BatchNorm2d, neck: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 8, 3, padding=1, bias=False), norm(8), nn.ReLU6(inplace=True)]
        widths = [8, 32, neck, *[32] * (more - 2)]
        for width, wide in itertools.pairwise(widths):
            layers += [nn.Conv2d(width, wide, 3, bias=False), norm(wide), nn.ReLU6(inplace=True)]
        self.body, self.fc = nn.Sequential(*layers), nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x).mean(dim=(2, 3)))


def packed_convs(network: Network) -> list[PackedConv]:
    return [layer for layer in network.module.modules() if isinstance(layer, PackedConv)]


@pytest.mark.parametrize(("more", "neck", "early"), [(2, 32, 0), (8, 32, 2), (8, 24, 3)])
def test_the_first_layers_stay_in_fp32_where_they_are_little_work(more: int, neck: int, early: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 64, 64)
    twin = fuse(randomised(Network(Deep(more, neck=neck).eval())), x)
    assert twin is not None
    types = [layer.dtype for layer in packed_convs(twin)]
    assert types == [torch.float32] * early + [torch.bfloat16] * (more + 1 - early)


def test_rounding_keeps_what_a_layer_gives_at_the_mean_input() -> None:
    """Where BatchNorm's statistics are those of the data, the mean that follows from them is the mean of the data."""
    torch.manual_seed(0)
    network = randomised(Network(Deep(2).eval()))
    x = torch.randn(16, 3, 32, 32)
    body = network.module.body
    with torch.no_grad():
        for i in (1, 4, 7):
            seen = body[:i](x)
            body[i].running_mean.copy_(seen.mean(dim=(0, 2, 3)))
            body[i].running_var.copy_(seen.var(dim=(0, 2, 3)))
            # Some channels are nearly always active, others hardly ever: only their own means count.
            body[i].bias.copy_(torch.linspace(-2, 5, len(body[i].bias)))
        twin = fuse(network, x[:1])
        assert twin is not None
        conv = packed_convs(twin)[2]
        given, scale = body[:6](x), body[7].weight / (body[7].running_var + body[7].eps).sqrt()
        exact = body[6].weight * scale[:, None, None, None]
        plain = body[7].bias - body[7].running_mean * scale
        error = (exact - round_filters(exact)).sum(dim=(2, 3)) @ given.mean(dim=(0, 2, 3))
        assert conv.bias is not None
        assert (plain + error - conv.bias).norm() < 0.2 * error.norm()


def test_batchnorm_without_scales_and_hooks_of_others() -> None:
    torch.manual_seed(0)
    network = Network(Deep(2, functools.partial(nn.BatchNorm2d, affine=False)).eval())
    calls: list[int] = []
    network.module.body[2].register_forward_hook(lambda *_: calls.append(1))
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        expected = network.features(x)
    calls.clear()
    twin = fuse(network, x)
    assert twin is not None
    assert cosine(bf16(twin, x), expected) > 0.999
    assert len(calls) <= 4  # passes of the network and of its copy


@pytest.mark.usefixtures("tiny_plugin")
def test_a_network_that_changed_is_fused_anew(photos) -> None:
    from zoo.adapt.features import FeatureStore
    from zoo.data.open import open_data
    from zoo.models.accelerator import choose

    split, store = open_data(photos).train, FeatureStore()
    network = zoo.load_backbone("tiny", weights=None, accelerator="cpu")
    before = store.features(network, split, choose("cpu", "bf16"))
    with torch.no_grad():
        network.get_parameter("layer1.1.weight").mul_(-1)
    after = store.features(network, split, choose("cpu", "bf16"))
    exact = store.features(network, split, choose("cpu", "fp32"))
    assert cosine(after, exact) > 0.999
    assert cosine(before, exact) < 0.9
    # Its tensors stay, but not what is done with them, or where features are read.
    network.get_submodule("layer1")[0] = torch.nn.Hardtanh()
    for tap in (network.tap, "stem"):
        network.tap = tap
        found = store.features(network, split, choose("cpu", "bf16"))
        assert cosine(found, store.features(network, split, choose("cpu", "fp32"))) > 0.999


@pytest.mark.usefixtures("tiny_plugin")
def test_features_do_not_depend_on_batches_or_threads(photos) -> None:
    """To a rounding of bf16 (1/256): oneDNN chooses another order of summation for other shapes."""
    from zoo.adapt.features import FeatureStore
    from zoo.data.open import open_data
    from zoo.models.accelerator import choose

    split = open_data(photos).train
    network = zoo.load_backbone("tiny", weights=None, accelerator="cpu")
    placement = choose("cpu", "bf16")
    found = [
        FeatureStore().features(network, split, placement, batch_size=size, workers=workers)
        for size, workers in ((None, None), (1, 0), (5, 3), (24, 2))
    ]
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1 / 256, atol=1e-3)
    again = FeatureStore().features(copy.deepcopy(network), split, placement)
    assert torch.equal(again, found[0])
    exact = FeatureStore().features(network, split, choose("cpu", "fp32"))
    assert np.allclose(found[0], exact, rtol=0.02, atol=0.01)
