"""Below the boundary of a partial fine-tune: nothing is recorded for gradients, and it is computed once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from zoo_plugins.strategies.fine_tune.strategy import FineTune

import zoo
from zoo.adapt import front as fronts
from zoo.adapt.front import Front
from zoo.adapt.strategy import Model
from zoo.models.accelerator import Placement
from zoo.models.network import Network
from zoo.testing.networks import Tiny

PLACEMENTS = [Placement(torch.device("cpu"), precision, "a test") for precision in ("fp32", "bf16")]


class Skipping(nn.Module):
    """What the stem gives is used again behind layer1."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.layer1 = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.layer2 = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        early = self.stem(x)
        return self.fc((self.layer2(self.layer1(early)) + early).mean(dim=(2, 3)))


class Gated(Skipping):
    """What the stem gives comes in again through a gate of layer2's that is closed at first."""

    def __init__(self) -> None:
        super().__init__()
        self.layer2.register_parameter("gate", nn.Parameter(torch.zeros(1)))

    def forward(self, x: Tensor) -> Tensor:
        early = self.stem(x)
        late = self.layer2(self.layer1(early))
        return self.fc((late + self.layer2.gate * early).mean(dim=(2, 3)))


class Dropping(Skipping):
    """Drops out by itself between stem and layer1."""

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.dropout(self.stem(x), 0.5, self.training)
        return self.fc(self.layer2(self.layer1(x)).mean(dim=(2, 3)))


class Tokens(nn.Module):
    """As a transformer: positions are added between the stem and the blocks, and blocks are a list."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.position = nn.Parameter(torch.randn(1, 5, 8))
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)) for _ in range(3)
        )
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[2:] == (8, 8)
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.position
        for block in self.blocks:
            x = x + block(x)
        return self.fc(x.mean(dim=1))


class Featured(nn.Module):
    """Its layers are called as a method of `Network` is."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)
        )
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean(dim=(2, 3)))


def model(module: nn.Module) -> Model:
    network = Network(module)
    return Model(network, nn.Linear(network.num_features if network.knows_width else 8, 3)).eval()


def pictures(rows: int = 2, size: int = 8) -> Tensor:
    return torch.randn(rows, 3, size, size, generator=torch.Generator().manual_seed(0))


def cut(module: nn.Module, stage: str) -> tuple[Front, Model]:
    torch.manual_seed(0)
    made = model(module)
    stages = tuple(made.stages())
    return Front(made, stages[: stages.index(stage) + 1]), made


@pytest.mark.parametrize("placement", PLACEMENTS, ids=["fp32", "bf16"])
@pytest.mark.parametrize(
    ("kind", "stage"),
    [(Tiny, "stem"), (Tiny, "layer1"), (Tokens, "stem"),
     (Featured, "features.0"), (Featured, "features.3"), (Skipping, "stem")],
)  # fmt: skip
class TestCut:
    def test_the_rest_gives_the_same(self, kind: type, stage: str, placement: Placement) -> None:
        front, made = cut(kind(), stage)
        x = pictures(5)
        assert front.fits(x[:2], placement)
        with torch.no_grad(), placement.autocast():
            expected = made.features(x)
            kept = front.reads(x, placement)
            with front.left_out():
                assert torch.equal(made.features(kept), expected)
            assert torch.equal(made.features(x), expected)  # and afterwards all is as it was

    def test_nothing_of_it_runs(self, kind: type, stage: str, placement: Placement) -> None:
        front, made = cut(kind(), stage)
        assert front.fits(pictures(), placement)
        kept = front.reads(pictures(), placement)
        ran: list[nn.Module] = []

        def note(module: nn.Module, inputs: Any) -> None:
            if "forward" not in vars(module):  # what only stands still computes nothing
                ran.append(module)

        layers = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)
        names = {module: name for name, module in made.backbone.module.named_modules() if isinstance(module, layers)}
        hooks = [module.register_forward_pre_hook(note) for module in names]
        with front.left_out(), torch.no_grad(), placement.autocast():
            made.features(kept)
        for hook in hooks:
            hook.remove()
        stages = [name for name in made.stages() if name != "head"]
        seen = {made.backbone.stage_of(names[module]) for module in ran} - {"head"}  # where the forward pass ends
        assert seen == set(stages[stages.index(stage) + 1 :])


class TestUnfit:
    @pytest.mark.parametrize("stage", ["stem", "layer1"])
    def test_what_goes_past_the_boundary(self, stage: str) -> None:
        """The stem's output alone feeds the rest; layer1's does not."""
        front, _ = cut(Skipping(), stage)
        assert front.fits(pictures(), PLACEMENTS[0]) == (stage == "stem")

    @pytest.mark.parametrize("stage", ["stem", "layer1"])
    def test_what_goes_past_it_through_a_closed_gate(self, stage: str) -> None:
        front, _ = cut(Gated(), stage)
        assert front.fits(pictures(), PLACEMENTS[0]) == (stage == "stem")

    @pytest.mark.parametrize("stage", ["stem", "layer1"])
    def test_what_drops_out_between_stages(self, stage: str) -> None:
        front, made = cut(Dropping(), stage)
        before = torch.get_rng_state()
        assert front.fits(pictures(), PLACEMENTS[0]) == (stage == "stem")
        assert torch.equal(torch.get_rng_state(), before)
        assert not any(module.training for module in made.backbone.module.modules())

    def test_a_modules_own_forward_is_kept(self) -> None:
        """As a wrapper of another library sets it, on the object."""
        module = Tiny()
        own = module.norm.forward = lambda x: nn.BatchNorm2d.forward(module.norm, x) * 2
        front, made = cut(module, "stem")
        expected = made.features(pictures())
        assert front.fits(pictures(), PLACEMENTS[0])
        assert vars(module.norm)["forward"] is own
        assert torch.equal(made.features(pictures()), expected)

    def test_input_of_another_kind(self) -> None:
        front, _ = cut(Tiny(), "stem")
        assert not front.fits((pictures(), pictures()), PLACEMENTS[0])
        assert not front.fits(torch.zeros(2, 3, 8, 8, dtype=torch.int64), PLACEMENTS[0])

    def test_an_error_inside_leaves_the_network_as_it_was(self) -> None:
        front, made = cut(Tiny(), "stem")
        assert front.fits(pictures(), PLACEMENTS[0])
        expected = made.features(pictures())
        with pytest.raises(RuntimeError, match="mine"), front.left_out():
            raise RuntimeError("mine")
        assert torch.equal(made.features(pictures()), expected)
        assert not [name for name, module in made.named_modules() if "forward" in vars(module)]


# -- fits --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(1)
    y = np.arange(66) % 3
    x = np.eye(3)[y][:, :, None, None] + generator.normal(0, 1, (66, 3, 8, 8))
    return x.astype(np.float32), y


def compose(module: nn.Module, freeze: str, **more: Any) -> Any:
    options = {"epochs": 2, "batch_size": 8, "precision": "fp32", "seed": 3, "lr": 1e-2, **more}
    return zoo.compose(module, "fine-tune", freeze=freeze, **options)


def made(kind: type) -> nn.Module:
    torch.manual_seed(0)
    return kind()


@pytest.mark.parametrize(
    ("kind", "freeze", "precision"),
    [(Tiny, "stem", "fp32"), (Tiny, "stem", "bf16"), (Tiny, "all", "bf16"), (Tokens, "stem", "fp32"),
     (Skipping, "layer1", "fp32"), (Gated, "layer1", "fp32"), (Dropping, "layer1", "fp32")],
)  # fmt: skip
def test_the_same_student_bit_for_bit(kind: type, freeze: str, precision: str, data: Any) -> None:
    """53 rows in batches of 8; where the network cannot be cut, nothing is kept."""
    kept, plain = (compose(made(kind), freeze, precision=precision, cache=cache).fit(data) for cache in (True, False))
    last = {"all": "layer1", "layer1": None}.get(freeze, freeze)
    assert kept.record["resolved"]["kept_up_to"] == last
    assert "kept_up_to" not in plain.record["resolved"]
    for name, tensor in plain.model.state_dict().items():
        assert torch.equal(tensor, kept.model.state_dict()[name]), name
    assert [epoch["loss"] for epoch in plain.history] == [epoch["loss"] for epoch in kept.history]
    assert kept.evaluation == plain.evaluation


def steps_that_ran(learner: Any, data: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """How often the convolution at the front ran while a loss was computed, and how many losses there were."""
    runs, losses, inside = [], [], []
    forward, loss = nn.Conv2d.forward, FineTune.loss

    def watched(self: nn.Conv2d, x: Tensor) -> Tensor:
        if inside and self.in_channels == 3:
            runs.append(self)
        return forward(self, x)

    def noted(self: FineTune, *arguments: Any) -> Any:
        inside.append(True)
        losses.append(True)
        try:
            return loss(self, *arguments)
        finally:
            inside.clear()

    monkeypatch.setattr(nn.Conv2d, "forward", watched)
    monkeypatch.setattr(FineTune, "loss", noted)
    learner.fit(data)
    return len(runs), len(losses)


class TestWhenItIsKept:
    @pytest.mark.parametrize(
        ("freeze", "options", "kept"),
        [("all", {}, True), ("stem", {"early_stop": 2}, True), ("stem", {"unfreeze": "gradual"}, True),
         ("none", {"unfreeze": "gradual"}, True), ("none", {"unfreeze": "gradual", "epochs": 4}, False),
         ("stem", {"cache": False}, False), ("stem", {"mixup": 0.2}, False), ("stem", {"cutmix": 0.2}, False)],
    )  # fmt: skip
    def test_steps(self, freeze: str, options: dict, kept: bool, data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        runs, losses = steps_that_ran(compose(made(Tiny), freeze, **options), data, monkeypatch)
        assert losses >= 10
        assert runs == (0 if kept else losses)

    def test_not_what_is_larger_than_the_limit(self, data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        row = 8 * 8 * 8 * 4
        monkeypatch.setattr(fronts, "LIMIT", 53 * row - 1)
        runs, losses = steps_that_ran(compose(made(Tiny), "stem"), data, monkeypatch)
        assert runs == losses

    def test_not_pictures_that_change(self, monkeypatch: pytest.MonkeyPatch) -> None:
        x = np.random.default_rng(0).integers(0, 256, (66, 8, 8, 3), dtype=np.uint8)
        preprocessing = zoo.Preprocessing(input_size=(3, 8, 8))
        learner = compose(made(Tiny), "stem", augment="flip", preprocessing=preprocessing)
        runs, losses = steps_that_ran(learner, (x, np.arange(66) % 3), monkeypatch)
        assert runs == losses


def test_a_resumed_fit_is_the_same(data: Any, tmp_path: Path) -> None:
    whole = compose(made(Tiny), "stem", ema=0.9).fit(data)

    def stop(what: str, done: int, total: int) -> None:
        if what == "train" and done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compose(made(Tiny), "stem", ema=0.9).fit(data, resume=tmp_path / "run", progress=stop)
    again = compose(made(Tiny), "stem", ema=0.9).fit(data, resume=tmp_path / "run")
    assert any("went on" in note for note in again.notes)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name]), name


# -- gradients ---------------------------------------------------------------------------------------------------------


def saved_for_backward(freeze: str, data: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[bool]]:
    """Bytes that a loss keeps for its backward pass, and whether the outputs of stem and layer1 have a graph."""
    sizes: list[int] = []
    graphs: list[bool] = []
    loss = FineTune.loss

    def noted(self: FineTune, model: Model, batch: Any, context: Any) -> Any:
        module = model.backbone.module
        hooks = [
            stage.register_forward_hook(lambda module, inputs, output: graphs.append(output.grad_fn is not None))
            for stage in (module.norm, module.layer1)
        ]
        sizes.clear(), graphs.clear()

        def pack(tensor: Tensor) -> Tensor:
            if not isinstance(tensor, nn.Parameter):
                sizes.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            found = loss(self, model, batch, context)
        for hook in hooks:
            hook.remove()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(FineTune, "loss", noted)
        compose(made(Tiny), freeze, epochs=1, cache=False).fit(data)
    return sum(sizes), list(graphs)


def test_nothing_is_stored_below_the_boundary(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    everything, graphs = saved_for_backward("none", data, monkeypatch)
    assert graphs == [True, True]
    behind, graphs = saved_for_backward("stem", data, monkeypatch)
    assert graphs == [False, True]
    head, graphs = saved_for_backward("all", data, monkeypatch)
    assert graphs == [False, False]
    assert head < behind < everything
    maps = 5 * 8 * 8 * 8 * 4  # of the last batch, which has 5 rows: one per layer
    assert everything - behind >= 2 * maps  # what BatchNorm, and the convolution's input ...
    assert head < maps
