"""A backbone behind one contract: logits, features at a tap, stages."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from zoo.catalog.spec import Backbone, Preprocessing
from zoo.errors import DataError, PluginError, UsageError
from zoo.models.network import Network, pool, running_in_eval
from zoo.models.stages import HEAD, derive_stages, find_head

FAMILIES = [
    "vgg11",
    "resnet18",
    "convnext_atto",
    "vit_tiny_patch16_224",
    "mobilenetv2_100",
    "levit_128s",
    "regnetx_002",
]


class Small(nn.Module):
    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.bn1 = nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU())
        self.blocks = nn.Sequential(nn.Conv2d(6, 7, 1), nn.Conv2d(7, 8, 1))
        self.norm = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.layer1(self.bn1(self.conv1(x))))
        return self.fc(self.norm(x).mean(dim=(2, 3)))


class TwoInputs(nn.Module):
    """Token ids and a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 6)
        self.encode = nn.Linear(6, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.encode(self.embed(ids)) * mask[..., None]
        return self.head(input=x.sum(1) / mask.sum(1, keepdim=True))


@pytest.fixture
def x() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(2, 3, 12, 12)


def test_it_is_the_module_for_all_that_asks_for_tensors(x: Tensor) -> None:
    module = Small().eval()
    network = Network(module)
    assert list(network.state_dict()) == list(module.state_dict())
    assert [name for name, _ in network.named_parameters()] == [name for name, _ in module.named_parameters()]
    assert torch.equal(network(x), module(x))
    network.double()
    assert module.fc.weight.dtype == torch.float64
    network.float().train()
    assert module.training
    assert module.bn1.training
    network.eval()
    assert not module.bn1.training
    network.fc = nn.Linear(8, 2)
    assert module.fc.out_features == 2


def test_a_deep_copy_shares_nothing(x: Tensor) -> None:
    network = Network(Small().eval())
    twin = copy.deepcopy(network)
    before = network(x)
    with torch.no_grad():
        twin.fc.weight.zero_()
        twin.module.conv1.weight.zero_()
    assert torch.equal(network(x), before)
    assert twin.module.fc is twin.fc


def test_features_are_the_input_of_the_head(x: Tensor) -> None:
    module = Small().eval()
    network = Network(module)
    features = network.features(x)
    assert features.shape == (2, 8)
    assert torch.equal(module.fc(features), network(x))
    assert not module.fc._forward_pre_hooks


@pytest.mark.parametrize("name", FAMILIES)
def test_features_equal_timms_own(name: str) -> None:
    torch.manual_seed(0)
    module = timm.create_model(name, num_classes=5).eval()
    x = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        expected = module.forward_head(module.forward_features(x), pre_logits=True)
        found = Network(module).features(x)
    if name == "levit_128s":  # its two heads begin with a norm, which timm counts to the head
        found = module.head.bn(expected) - found
        expected = torch.zeros_like(expected)
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", [*FAMILIES, "regnetx_002", "torchvision"])
def test_no_tap_sees_the_head_and_each_stage_counts_once(name: str) -> None:
    if name == "torchvision":
        module = torchvision.models.alexnet(weights=None).eval()
    else:
        module = timm.create_model(name, num_classes=5).eval()
    network = Network(module)
    for head in network.head_names:
        for parameter in module.get_submodule(head).parameters():
            nn.init.constant_(parameter, float("nan"))
    x = torch.randn(1, 3, 224, 224)
    taps = network.taps()
    for tap in {None, taps[0], taps[len(taps) // 2], *taps[-3:]}:
        network.tap = tap
        with torch.no_grad():
            features = network.features(x)
        assert features.ndim == 2
        assert torch.isfinite(features).all(), tap
    stages = network.stages()
    names = [name for members in stages.values() for name in members]
    assert sorted(names) == sorted(name for name, _ in module.named_parameters())
    assert list(stages)[-1] == HEAD


def test_stages_and_taps_in_order(x: Tensor) -> None:
    network = Network(Small().eval())
    assert network.taps() == ["stem", "layer1", "blocks.0", "blocks.1", "norm"]
    assert network.stages()["stem"] == ["conv1.weight", "conv1.bias", "bn1.weight", "bn1.bias"]
    assert network.behind_tap() == [HEAD]
    widths = {"stem": 4, "layer1": 6, "blocks.0": 7, "blocks.1": 8, "norm": 8, "layer1.0": 6}
    own = Preprocessing(input_size=(3, 12, 12))
    for tap, width in widths.items():
        tapped = Network(Small().eval(), tap=tap, preprocessing=own)
        assert tapped.features(x).shape == (2, width)
        assert tapped.num_features == width
    assert Network(Small(), tap="layer1").behind_tap() == ["blocks.0", "blocks.1", "norm", HEAD]
    assert Network(Small(), tap="layer1.0").behind_tap() == ["blocks.0", "blocks.1", "norm", HEAD]


def test_what_lies_behind_the_tap_is_not_computed(x: Tensor) -> None:
    module = Small().eval()
    module.norm.register_forward_hook(lambda *_: pytest.fail("computed"))
    assert Network(module, tap="blocks.1").features(x).shape == (2, 8)


def test_declared_stages_and_head(x: Tensor) -> None:
    stages = {"early": ("conv1", "bn1", "layer1"), "late": ("blocks", "norm")}
    spec = Backbone(name="s", family="s", build="a:b", num_features=8, params=1, head="fc", stages=stages)
    network = Network(Small().eval(), spec, tap="early")
    assert list(network.stages()) == ["early", "late", HEAD]
    assert network.features(x).shape == (2, 6)
    assert network.behind_tap() == ["late", HEAD]


def test_width_without_a_forward_pass() -> None:
    assert Network(Small()).num_features == 8
    spec = Backbone(name="s", family="s", build="a:b", num_features=77, params=1)
    assert Network(Small(), spec).num_features == 77
    with pytest.raises(UsageError, match="width"):
        _ = Network(Small(), tap="layer1").num_features


def test_a_width_that_was_seen_is_remembered(x: Tensor) -> None:
    network = Network(Small().eval(), tap="layer1")
    assert not network.knows_width
    network.features(x)
    assert network.knows_width
    assert network.num_features == 6


def test_a_spec_that_declares_another_width(x: Tensor) -> None:
    spec = Backbone(name="s", family="s", build="a:b", num_features=77, params=1, plugin="mine")
    with pytest.raises(PluginError, match="mine/s are 8 wide, not 77") as caught:
        Network(Small().eval(), spec).features(x)
    assert "plugin mine declares num_features=77" in caught.value.why
    assert Network(Small().eval(), spec, tap="layer1").features(x).shape == (2, 6)


def test_measuring_changes_no_statistics() -> None:
    module = Small().train()
    network = Network(module, tap="norm", preprocessing=Preprocessing(input_size=(3, 12, 12)))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    assert network.num_features == 8
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert module.norm.training


def test_two_inputs_as_a_tuple_or_by_name() -> None:
    network = Network(TwoInputs().eval())
    ids, mask = torch.arange(8).reshape(2, 4), torch.ones(2, 4)
    by_name = network.features({"ids": ids, "mask": mask})
    assert by_name.shape == (2, 6)
    assert torch.equal(network.features((ids, mask)), by_name)
    assert network((ids, mask)).shape == (2, 2)
    assert network.num_features == 6
    assert Network(TwoInputs(), tap="encode").features((ids, mask)).shape == (2, 6)


def test_unknown_taps_and_heads_are_named() -> None:
    with pytest.raises(UsageError, match="no tap called 'middle'") as caught:
        Network(Small(), tap="middle")
    assert "layer1" in caught.value.hint
    with pytest.raises(UsageError, match="no classifier"):
        Network(nn.Sequential(nn.Conv2d(3, 4, 1)))
    with pytest.raises(UsageError, match="no classifier nothing"):
        Network(Small(), head="nothing")


def test_a_tap_at_or_behind_the_classifier() -> None:
    for tap in ("fc", ""):
        with pytest.raises(UsageError, match="is the classifier") as caught:
            Network(Small(), tap=tap)
        assert "layer1" in caught.value.hint
    alexnet = torchvision.models.alexnet(weights=None)
    for tap in ("classifier", "classifier.6"):
        with pytest.raises(UsageError, match="is the classifier"):
            Network(alexnet, tap=tap)
    assert Network(alexnet, tap="classifier.5").tap == "classifier.5"
    chain = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Linear(4, 2), nn.Softmax(dim=1))
    with pytest.raises(UsageError, match="lies behind"):
        Network(chain, tap="3")
    assert Network(chain, tap="1.0").features(torch.ones(2, 4)).shape == (2, 4)


def test_a_tap_that_runs_after_the_classifier(x: Tensor) -> None:
    class Scaled(Small):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.BatchNorm1d(5)

        def forward(self, x: Tensor) -> Tensor:
            return self.scale(super().forward(x))

    with pytest.raises(UsageError, match="lies behind"):
        Network(Scaled().eval(), tap="scale").features(x)


def test_a_tap_that_is_not_reached(x: Tensor) -> None:
    class Unused(Small):
        def __init__(self) -> None:
            super().__init__()
            self.aside = nn.Linear(2, 2)

    with pytest.raises(UsageError, match="never reached"):
        Network(Unused().eval(), head="fc", tap="aside").features(x)


def test_the_head_is_found() -> None:
    assert find_head(Small()) == ("fc",)
    assert find_head(timm.create_model("vgg11")) == ("head.fc",)
    assert find_head(timm.create_model("levit_128s")) == ("head.linear", "head_dist.linear")
    assert find_head(torchvision.models.alexnet(weights=None)) == ("classifier.6",)
    assert find_head(Small(), "conv1, fc") == ("conv1", "fc")


def test_the_source_head_comes_with_weights_only() -> None:
    module = Small()
    assert Network(module).source_head is None
    assert Network(module, weights="s.a").source_head is module.fc
    module.fc = nn.Identity()
    assert Network(module, head="fc", weights="s.a").source_head is None


@pytest.mark.parametrize(
    ("features", "owner", "expected"),
    [
        (torch.ones(2, 5), None, (2, 5)),
        (torch.ones(2, 5, 3, 3), None, (2, 5)),
        (torch.ones(2, 3, 3, 5), type("M", (), {"output_fmt": "NHWC"})(), (2, 5)),
        (torch.ones(2, 7, 5), None, (2, 5)),
        ((torch.ones(2, 5), torch.ones(1)), None, (2, 5)),
        (torch.ones(2, 5, 2, 2, 2), None, (2, 40)),
    ],
)
def test_pooling(features: Any, owner: Any, expected: tuple[int, int]) -> None:
    assert pool(features, owner).shape == expected


def test_prefix_tokens_are_left_out_of_the_average() -> None:
    tokens = torch.tensor([[[9.0], [1.0], [3.0]]])
    assert pool(tokens, type("M", (), {"num_prefix_tokens": 1})()).item() == 2.0
    assert pool(tokens[:, :1], type("M", (), {"num_prefix_tokens": 1})()).item() == 9.0


@pytest.mark.parametrize("nonsense", [None, torch.ones(3), {"x": torch.ones(2, 2)}, []])
def test_a_tap_without_a_tensor(nonsense: Any) -> None:
    with pytest.raises(UsageError, match="no tensor"):
        pool(nonsense)


def test_wrong_channels_are_a_data_error() -> None:
    with pytest.raises(DataError, match="channels") as caught:
        Network(Small().eval())(torch.ones(1, 1, 12, 12))
    assert "in_chans" in caught.value.hint
    assert Network(Small()).in_chans == 3
    assert Network(nn.Sequential(nn.Conv1d(1, 2, 3), nn.Linear(2, 2))).in_chans == 1


def test_samples_of_too_many_parts_are_a_data_error() -> None:
    with pytest.raises(DataError, match="2 parts"):
        Network(Small().eval())((torch.ones(1, 3, 12, 12), torch.ones(1, 2)))


def test_modes_come_back_one_by_one() -> None:
    module = Small().train()
    module.bn1.eval()
    with running_in_eval(module):
        assert not any(child.training for child in module.modules())
    assert module.training
    assert not module.bn1.training
    assert module.norm.training


def test_containers_give_stages() -> None:
    module = nn.ModuleDict(
        {
            "conv": nn.Conv2d(3, 4, 1),
            "s1": nn.ModuleDict({"b1": nn.Linear(2, 2), "b2": nn.Linear(2, 2)}),
            "bn1": nn.ModuleDict({"act": nn.ReLU(), "drop": nn.Dropout()}),
            "head": nn.Linear(2, 2),
        }
    )
    assert derive_stages(module, ("head",)) == {"stem": ("conv",), "s1": ("s1",), "bn1": ("bn1",), HEAD: ("head",)}


def test_a_parameter_called_as_a_fact_of_the_network_stays() -> None:
    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = nn.Parameter(torch.ones(2))
            self.fc = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x * self.weights)

    for name in (None, "weighted.a"):
        network = Network(Weighted(), weights=name)
        assert network.weights == name
        assert torch.equal(network.state_dict()["weights"], torch.ones(2))
        assert network(torch.ones(1, 2)).shape == (1, 2)


def test_input_channels_where_the_stem_folds_pixels() -> None:
    with torch.device("meta"):
        assert Network(timm.create_model("tresnet_m", in_chans=1)).in_chans == 1
        assert Network(timm.create_model("resnet18", in_chans=4)).in_chans == 4
