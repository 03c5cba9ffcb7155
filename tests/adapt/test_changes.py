"""Changes beside a backbone's tensors: used in the forward pass, put in place, told by two small tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from zoo.adapt.changes import Change, changed_features
from zoo.adapt.deltas import completed, differences, low_rank_changes
from zoo.adapt.heads import build_head
from zoo.adapt.lowrank import LowRank
from zoo.adapt.strategy import Model
from zoo.errors import DataError, IntegrityError
from zoo.models.network import Network
from zoo.testing.networks import Tiny

HERE = Path("model.safetensors")


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Attention(nn.Module):
    """Reads the weights of its parts without calling them, as torch's attention and its fast path do."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.embed(x)).mean(dim=1))


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x).relu()).relu())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("module", "x", "name"),
    [
        (Attention, (5, 7, 4), "layer.self_attn.out_proj.weight"),
        (Attention, (5, 7, 4), "layer.self_attn.in_proj_bias"),
        (Attention, (5, 7, 4), "layer.linear2.weight"),
        (Tied, (5, 6), "first.weight"),
        (Tiny, (5, 3, 8, 8), "layer1.2.bias"),
    ],
)
def test_features_are_those_of_a_network_with_that_tensor(
    module: type[nn.Module], x: tuple[int, ...], name: str, training: bool
) -> None:
    torch.manual_seed(0)
    network = Network(module(), head="head" if module is not Tiny else "classifier")
    network.train(training)
    torch.manual_seed(1)
    other = seeded(*network.get_parameter(name).shape)
    before = {key: tensor.clone() for key, tensor in network.named_parameters()}
    plain = network.features(seeded(*x))
    torch.manual_seed(2)
    with torch.no_grad():
        found = changed_features(network, {name: other}, seeded(*x))
        assert all(torch.equal(tensor, before[key]) for key, tensor in network.named_parameters())
        network.get_parameter(name).copy_(other)
        torch.manual_seed(2)
        assert torch.equal(found, network.features(seeded(*x)))
    assert not torch.allclose(found, plain)


def test_a_forward_pass_that_fails_leaves_the_network_as_it_was() -> None:
    network = Network(Tiny()).eval()
    before = network.conv.weight
    with pytest.raises(DataError):
        changed_features(network, {"conv.weight": torch.zeros(8, 3, 3, 3)}, torch.zeros(2, 5))
    assert network.conv.weight is before


def test_gradients_reach_the_change_and_not_the_tensor() -> None:
    class Scaled(Change):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def tensors(self, network: Network) -> dict[str, Tensor]:
            return {"conv.weight": network.get_parameter("conv.weight") * self.scale}

    torch.manual_seed(0)
    model = Model(Network(Tiny()), build_head("linear", 8, 3), {"scaled": Scaled()}).eval()
    model.backbone.requires_grad_(False)
    x = seeded(4, 3, 8, 8)
    model(x).square().sum().backward()
    assert model.extras["scaled"].scale.grad.abs() > 0
    assert model.backbone.conv.weight.grad is None
    model.extras.pop("scaled")
    weight = model.backbone.conv.weight.data.clone()
    values = []
    for scale in (1 - 1e-3, 1 + 1e-3):
        model.backbone.conv.weight.data = weight * scale
        values.append(float(model(x).detach().square().sum()))
    torch.manual_seed(0)
    again = Model(Network(Tiny()), build_head("linear", 8, 3), {"scaled": Scaled()}).eval()
    again(x).square().sum().backward()
    assert float(again.extras["scaled"].scale.grad) == pytest.approx((values[1] - values[0]) / 2e-3, rel=1e-2)


class TestLowRank:
    @pytest.mark.parametrize(("shape", "groups"), [((6, 5), 1), ((6, 2, 3, 3), 1), ((6, 2, 3, 3), 3), ((4, 1, 5), 2)])
    def test_against_numpy(self, shape: tuple[int, ...], groups: int) -> None:
        rows, columns = shape[0] // groups, int(np.prod(shape[1:]))
        change = LowRank(seeded(groups, rows, 2), seeded(groups, 2, columns, seed=1))
        tensor = seeded(*shape, seed=2)
        expected = tensor.numpy().astype(float)
        for g in range(groups):
            product = change.up[g].numpy().astype(float) @ change.down[g].numpy().astype(float)
            for row in range(rows):
                expected[g * rows + row] += product[row].reshape(shape[1:])
        assert change.fits(tensor)
        np.testing.assert_allclose(change.added_to(tensor).numpy(), expected, rtol=1e-6)
        assert change.added_to(tensor).dtype == tensor.dtype

    @pytest.mark.parametrize(
        ("up", "down"),
        [((1, 6, 2), (1, 3, 5)), ((2, 6, 2), (2, 2, 5)), ((1, 5, 2), (1, 2, 5)), ((1, 6, 2), (1, 2, 6)),
         ((6, 2), (2, 5)), ((1, 6, 2), (2, 2, 5))],
    )  # fmt: skip
    def test_what_does_not_fit(self, up: tuple[int, ...], down: tuple[int, ...]) -> None:
        assert not LowRank(seeded(*up), seeded(*down)).fits(seeded(6, 5))
        assert not LowRank(torch.ones(1, 6, 2).int(), seeded(1, 2, 5)).fits(seeded(6, 5))


class TestDeltas:
    def model(self) -> tuple[dict[str, Tensor], Model, LowRank]:
        torch.manual_seed(0)
        model = Model(Network(Tiny()), build_head("linear", 8, 3)).eval()
        before = {name: tensor.clone() for name, tensor in model.backbone.state_dict().items()}
        change = LowRank(seeded(1, 8, 2), seeded(1, 2, 27))
        model.add("conv.weight", change)
        with torch.no_grad():
            model.backbone.norm.bias.add_(1)
        return before, model, change

    def test_there_and_back(self) -> None:
        before, model, _ = self.model()
        kept = differences(model.state_dict(), before, model.low_rank)
        assert set(kept) == {
            "low_rank.conv.weight.up", "low_rank.conv.weight.down", "backbone.norm.bias", "head.weight", "head.bias"
        }  # fmt: skip
        changes = low_rank_changes(kept, HERE)
        found = completed(kept, before, changes, HERE)
        assert set(found) == set(model.state_dict())
        assert all(torch.equal(found[name], tensor) for name, tensor in model.state_dict().items())

    def test_a_change_that_is_no_longer_true_is_not_used(self) -> None:
        before, model, _ = self.model()
        with torch.no_grad():
            model.backbone.conv.weight[0, 0, 0, 0] += 1
        kept = differences(model.state_dict(), before, model.low_rank)
        assert torch.equal(kept["backbone.conv.weight"], model.backbone.conv.weight)
        assert not any(name.startswith("low_rank") for name in kept)

    def test_a_change_of_another_shape_is_not_used(self) -> None:
        """Not even made: it would hold 10**12 numbers."""
        before, model, _ = self.model()
        huge = LowRank(torch.zeros(1, 10**6, 1), torch.zeros(1, 1, 10**6))
        kept = differences(model.state_dict(), before, {"conv.weight": huge})
        assert torch.equal(kept["backbone.conv.weight"], model.backbone.conv.weight)
        with pytest.raises(IntegrityError, match=r"conv\.weight"):
            completed(kept, before, {"conv.weight": huge}, HERE)

    @pytest.mark.parametrize(
        ("name", "value"),
        [("low_rank.conv.weight.up", None), ("low_rank.conv.weight.down", None),
         ("low_rank.conv.weight.up", torch.zeros(1, 7, 2)), ("low_rank.conv.weight.down", torch.zeros(3)),
         ("low_rank.nowhere.up", torch.zeros(1, 1, 1)), ("low_rank.conv.weight", torch.zeros(1))],
    )  # fmt: skip
    def test_damage(self, name: str, value: Tensor | None) -> None:
        before, model, _ = self.model()
        kept = differences(model.state_dict(), before, model.low_rank)
        kept = {key: tensor for key, tensor in kept.items() if key != name} | ({} if value is None else {name: value})
        with pytest.raises(IntegrityError, match="is damaged"):
            completed(kept, before, low_rank_changes(kept, HERE), HERE)
