"""Loading: whole or not at all, and equal to timm's own loading bit for bit."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from zoo.catalog.spec import Backbone, Preprocessing, Weights
from zoo.errors import IntegrityError, NotFoundError, PluginError, RegistryError, UsageError
from zoo.models import load
from zoo.models.build import Builder
from zoo.models.finite import has_finite, is_finite
from zoo.models.load import load_network
from zoo.models.stem import adapt_stem, first_convolutions
from zoo.settings import Settings
from zoo.weights.remembered import Remembered
from zoo.weights.store import Store

#: More in tests/plugins/backbones/test_timm_loading.py.
FAMILIES = [
    "resnet18",
    "swin_tiny_patch4_window7_224",  # relative positions and masks that are not saved
    "eva02_tiny_patch14_224",  # rotary positions that are not saved
    "xcit_nano_12_p16_224",
]


class Tiny(nn.Module):
    """A convolution, BatchNorm, a buffer that is not saved, a classifier."""

    def __init__(self, num_classes: int, in_chans: int = 3, width: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chans, width, 3)
        self.bn = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, num_classes)
        self.register_buffer("scale", torch.linspace(1, 2, width), persistent=False)
        self.shift = torch.arange(width) / 7
        self.table = [torch.ones(width) * 3]

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.bn(self.conv(x)).mean(dim=(2, 3)) * self.scale + self.shift + self.table[0])


def spec(build: Callable[..., Any] = Tiny, **fields: Any) -> Backbone:
    return Backbone(name="tiny", family="tiny", build=build, num_features=4, params=1, **fields)


def timm_spec(name: str) -> Backbone:
    return Backbone(name=name, family="timm", build=lambda **k: timm.create_model(name, **k), num_features=1, params=1)


def saved(path: Path, module: nn.Module | None = None, metadata: dict[str, str] | None = None, **changes: Any) -> Path:
    """The state of `module` at `path`; a change of None removes that tensor."""
    state = {name: tensor.clone() for name, tensor in (module or tiny()).state_dict().items()}
    state.update({name.replace("__", "."): tensor for name, tensor in changes.items()})
    save_file({name: tensor for name, tensor in state.items() if tensor is not None}, path, metadata=metadata)
    return path


def tiny(num_classes: int = 5, **options: Any) -> Tiny:
    torch.manual_seed(3)
    return Tiny(num_classes, **options).eval()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return saved(tmp_path / "tiny.safetensors")


# -- equal to the oracle ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_equal_to_timms_own_loading(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    oracle = timm.create_model(name, num_classes=7)
    path = saved(tmp_path / "x.safetensors", oracle)
    oracle = timm.create_model(name, num_classes=7)
    oracle.load_state_dict(load_file(path), strict=True)
    oracle.eval()
    network = load_network(timm_spec(name), None, path)
    for ours, theirs in (
        (network.state_dict(), oracle.state_dict()),
        (dict(network.named_buffers()), dict(oracle.named_buffers())),
        (dict(network.named_parameters()), dict(oracle.named_parameters())),
    ):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) and ours[key].dtype == theirs[key].dtype for key in theirs)
    x = torch.randn(2, *oracle.pretrained_cfg["input_size"])
    with torch.no_grad():
        assert (network(x) - oracle(x)).abs().max() < 1e-6
    assert not network.training
    assert all(p.requires_grad and p.is_contiguous() and p.dtype == torch.float32 for p in network.parameters())
    assert not any(tensor.is_meta for tensor in (*network.parameters(), *network.buffers()))


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_nothing_random_is_drawn(name: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "x.safetensors", timm.create_model(name, num_classes=7))
    drawn: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if torch.Tag.nondeterministic_seeded in func.tags:
                drawn.append(str(func))
            return func(*args, **(kwargs or {}))

    with Watch():
        load_network(timm_spec(name), None, path)
        assert drawn == []
        timm.create_model("resnet18")
    assert drawn


def test_unsaved_buffers_and_plain_tensors_are_computed(file: Path) -> None:
    network, oracle, x = load_network(spec(), None, file), tiny(), torch.randn(2, 3, 8, 8)
    assert torch.equal(network(x), oracle(x))
    assert torch.equal(network.module.scale, oracle.scale)


def test_a_builder_that_reads_numbers_out_of_tensors(tmp_path: Path) -> None:
    class Reads(Tiny):
        def __init__(self, num_classes: int, in_chans: int = 3) -> None:
            super().__init__(num_classes, in_chans, width=int(torch.tensor(4.0).item()))

    x = torch.randn(1, 3, 8, 8)
    network = load_network(spec(Reads), None, saved(tmp_path / "x.safetensors"))
    assert torch.equal(network(x), tiny()(x))


def test_half_precision_becomes_single(tmp_path: Path) -> None:
    oracle = tiny().half()
    network = load_network(spec(), None, saved(tmp_path / "x.safetensors", oracle))
    assert all(tensor.dtype == torch.float32 for tensor in network.parameters())
    assert torch.equal(network.module.conv.weight, oracle.conv.weight.float())
    assert network.module.bn.num_batches_tracked.dtype == torch.int64


# -- writing never reaches the file ----------------------------------------------------------------------------------


def test_writing_to_a_parameter_leaves_the_file(tmp_path: Path) -> None:
    class Wide(nn.Module):
        def __init__(self, num_classes: int, in_chans: int = 3) -> None:
            super().__init__()
            self.fc = nn.Linear(2048, num_classes)  # larger than what is copied

    module = Wide(1024)
    path = saved(tmp_path / "x.safetensors", module)
    before = path.read_bytes()
    network = load_network(spec(Wide), None, path)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(7.0)
    assert path.read_bytes() == before
    assert torch.equal(load_network(spec(Wide), None, path).module.fc.weight, module.fc.weight)


def test_nothing_done_to_a_network_reaches_the_file(tmp_path: Path) -> None:
    class Wide(nn.Module):
        def __init__(self, num_classes: int, in_chans: int = 3) -> None:
            super().__init__()
            self.bn = nn.BatchNorm1d(2048)
            self.fc = nn.Linear(2048, num_classes)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.bn(x))

    path = saved(tmp_path / "x.safetensors", Wide(1024))
    before, stamp = path.read_bytes(), path.stat().st_mtime_ns
    for optimizer in (torch.optim.SGD, torch.optim.AdamW):
        network = load_network(spec(Wide, head="fc"), None, path).train()
        steps = optimizer(network.parameters(), lr=0.1)
        for _ in range(2):
            steps.zero_grad()
            network(torch.randn(4, 2048)).square().mean().backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            steps.step()
    for change in (nn.Module.half, nn.Module.double, lambda n: n.to(memory_format=torch.channels_last)):
        change(load_network(spec(Wide, head="fc"), None, path))
    network = load_network(spec(Wide, head="fc"), None, path)
    with torch.no_grad():
        network.module.fc.weight.data.zero_()
        network.module.bn.running_mean.add_(1)
        nn.init.normal_(network.module.fc.bias)
    network.load_state_dict({name: torch.zeros_like(tensor) for name, tensor in network.state_dict().items()})
    network.share_memory()
    del network
    assert path.read_bytes() == before
    assert path.stat().st_mtime_ns == stamp


def test_large_tensors_are_the_mapped_file(tmp_path: Path) -> None:
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("only Linux says what is private")

    class Wide(nn.Module):
        def __init__(self, num_classes: int, in_chans: int = 3) -> None:
            super().__init__()
            self.conv = nn.Conv2d(in_chans, 8, 3)
            self.body = nn.Linear(4096, 4096)
            self.fc = nn.Linear(4096, num_classes)

    def private() -> int:
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if "RssAnon" in line)

    path = saved(tmp_path / "x.safetensors", Wide(10))
    load_network(spec(Wide, head="fc"), None, path)  # looks for numbers that are not finite
    before = private()
    network = load_network(spec(Wide, head="fc"), None, path)
    assert network.module.body.weight.sum().isfinite()  # every page
    assert private() - before < 16e6 < path.stat().st_size / 4


def test_training_works_on_loaded_parameters(file: Path) -> None:
    before, network = file.read_bytes(), load_network(spec(), None, file).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network(torch.randn(4, 3, 8, 8)).square().mean().backward()
    optimizer.step()
    assert not torch.equal(network.module.fc.weight, tiny().fc.weight)
    assert network.module.bn.num_batches_tracked == 1
    assert file.read_bytes() == before


# -- what differs is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"conv__weight": None}, "missing: conv.weight [4, 3, 3, 3]"),
        ({"extra": torch.ones(2)}, "unexpected: extra [2]"),
        ({"conv__bias": torch.ones(5)}, "conv.bias: shape [5] in the file, [4] in the network"),
        ({"conv__weight": torch.ones(8, 3, 3, 3)}, "conv.weight: shape"),
        ({"conv__weight": torch.ones(4, 3, 5, 5)}, "conv.weight: shape"),
        ({"bn__running_mean": None}, "missing: bn.running_mean"),
        ({"conv__bias": torch.ones(4, dtype=torch.int32)}, "conv.bias: int (I32) in the file, float in the network"),
        ({"bn__num_batches_tracked": torch.tensor(1.0)}, "float (F32) in the file, int in the network"),
        ({"fc__weight": torch.ones(9, 4)}, "fc.bias: shape [5] in the file, [9] in the network"),
    ],
)
def test_a_difference_is_listed_and_nothing_is_read(
    changes: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "x.safetensors", **changes)
    monkeypatch.setattr(load._Filling, "read", lambda _: pytest.fail("a tensor was read"))
    with pytest.raises(IntegrityError, match="is not for tiny") as caught:
        load_network(spec(), None, path)
    assert said in caught.value.why


def test_five_differences_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.safetensors", timm.create_model("resnet18", num_classes=5))
    with pytest.raises(IntegrityError) as caught:
        load_network(timm_spec("mobilenetv2_100"), None, path)
    lines = caught.value.why.splitlines()
    assert len(lines) == 6
    assert lines[-1].strip().startswith("and ")


def test_nothing_is_allocated_for_a_wrong_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "x.safetensors")
    devices: list[torch.device] = []
    real = Builder._call
    monkeypatch.setattr(
        Builder, "_call", lambda self, device, *rest: devices.append(device) or real(self, device, *rest)
    )
    with pytest.raises(IntegrityError):
        load_network(timm_spec("vgg11"), None, path)
    assert {device.type for device in devices} == {"meta"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04pickle",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 16) + b'{"__metadata__":0',
    ],
)
def test_an_empty_or_broken_file_never_loads(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(IntegrityError):
        load_network(spec(), None, tmp_path / "x.safetensors")


def test_a_truncated_file_never_loads(file: Path, tmp_path: Path) -> None:
    content = file.read_bytes()
    for end in (4, 100, len(content) - 1):
        (tmp_path / "cut.safetensors").write_bytes(content[:end])
        with pytest.raises(IntegrityError):
            load_network(spec(), None, tmp_path / "cut.safetensors")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        load_network(spec(), None, tmp_path / "none.safetensors")
    with pytest.raises(UsageError, match="no file"):
        load_network(spec(), Weights(name="tiny.a", backbone="tiny", source="file:x"), None)


def test_only_the_batch_counter_may_be_absent(tmp_path: Path) -> None:
    network = load_network(spec(), None, saved(tmp_path / "x.safetensors", bn__num_batches_tracked=None))
    counter = network.module.bn.num_batches_tracked
    assert counter.dtype == torch.int64
    assert counter == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2])
def test_numbers_that_are_not_finite_are_refused(value: float, dtype: torch.dtype, tmp_path: Path) -> None:
    weight = torch.zeros(4, 3, 3, 3).to(dtype)
    weight[3, 2, 1, 0] = value
    path = saved(tmp_path / "x.safetensors", conv__weight=weight)
    for _ in range(2):
        with pytest.raises(IntegrityError, match="not finite") as caught:
            load_network(spec(), None, path)
        assert "conv.weight" in caught.value.why


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64])
def test_the_narrow_and_the_complex_are_looked_at(dtype: torch.dtype) -> None:
    tensor = torch.zeros(3, 5).to(dtype)
    assert has_finite(dtype)
    assert is_finite(tensor)
    tensor[2, 4] = float("nan")
    assert not is_finite(tensor)
    assert not has_finite(torch.int64)


def test_finite_numbers_are_looked_for_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = load_network(spec(), None, file)
    assert Remembered(Settings()).is_finite(network.weights_id)
    monkeypatch.setattr(load, "is_finite", lambda _: pytest.fail("looked again"))
    load_network(spec(), None, file)


def test_a_file_changed_since_it_was_pulled_is_refused(file: Path) -> None:
    promised = Weights(name="tiny.a", backbone="tiny", source=f"file:{file}", sha256="0" * 64)
    with pytest.raises(IntegrityError, match="promised"):
        load_network(spec(), promised, file)


# -- classes and heads -----------------------------------------------------------------------------------------------


def test_the_class_count_is_the_files_own(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.safetensors", tiny(11))
    assert load_network(spec(), None, path).module.fc.out_features == 11
    said = Weights(name="tiny.a", backbone="tiny", source="x:y", num_classes=12)
    with pytest.raises(IntegrityError, match="12 classes"):
        load_network(spec(), said, path)


def test_another_class_count_makes_a_random_head_and_nothing_else(file: Path) -> None:
    networks = [load_network(spec(), None, file, num_classes=9, seed=seed) for seed in (0, 0, 1)]
    first, same, other = (network.state_dict() for network in networks)
    assert first["fc.weight"].shape == (9, 4)
    assert torch.equal(first["fc.weight"], same["fc.weight"])
    assert not torch.equal(first["fc.weight"], other["fc.weight"])
    assert torch.equal(first["conv.weight"], tiny().conv.weight)
    with pytest.raises(IntegrityError, match="missing"):
        load_network(spec(), None, saved(file.with_name("y.safetensors"), conv__bias=None), num_classes=9)


def test_a_file_without_a_classifier(tmp_path: Path) -> None:
    module = timm.create_model("resnet18", num_classes=0)
    network = load_network(timm_spec("resnet18"), None, saved(tmp_path / "x.safetensors", module))
    assert isinstance(network.module.fc, nn.Identity)
    assert (
        load_network(timm_spec("resnet18"), None, tmp_path / "x.safetensors", num_classes=3).module.fc.out_features == 3
    )


def test_class_names_come_from_the_file(tmp_path: Path) -> None:
    names = ["ant", "bee", "cat", "dog", "eel"]
    path = saved(tmp_path / "x.safetensors", metadata={"classes": json.dumps(names)})
    assert load_network(spec(), None, path).classes == tuple(names)
    assert load_network(spec(), None, path, num_classes=2).classes is None
    for wrong in ("{", '"ant"', "[1, 2, 3, 4, 5]", '["ant"]', "[" * 100_000):
        path = saved(tmp_path / "y.safetensors", metadata={"classes": wrong})
        with pytest.raises(IntegrityError, match="class"):
            load_network(spec(), None, path)


def test_what_the_network_says_of_itself(file: Path) -> None:
    own = Preprocessing(input_size=(3, 8, 8))
    weights = Weights(name="tiny.a", backbone="tiny", source=f"file:{file}", preprocessing=own)
    network = load_network(spec(), weights, file, tap="conv")
    assert (network.weights, network.preprocessing, network.tap) == ("tiny.a", own, "conv")
    assert network.weights_id == Remembered(Settings()).sha256(file)
    assert network.source_head is network.module.fc


def test_a_blob_is_not_hashed_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(Settings())
    sha256 = store.add(file)
    monkeypatch.setattr(Remembered, "sha256", lambda *_: pytest.fail("hashed"))
    assert load_network(spec(), None, store.path(sha256)).weights_id == sha256


# -- input channels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_chans", [1, 2, 3, 4, 6, 7])
def test_the_stem_is_adapted_as_timm_does(in_chans: int, tmp_path: Path) -> None:
    module = timm.create_model("resnet18", num_classes=5)
    network = load_network(timm_spec("resnet18"), None, saved(tmp_path / "x.safetensors", module), in_chans=in_chans)
    oracle = timm.models.adapt_input_conv(in_chans, module.conv1.weight.detach())
    assert torch.equal(network.module.conv1.weight, oracle)
    assert network.in_chans == in_chans
    assert network(torch.randn(1, in_chans, 64, 64)).shape == (1, 5)


def test_a_grey_stem_sees_a_grey_picture_in_colour(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.safetensors", tiny(in_chans=1))
    grey = torch.randn(2, 1, 8, 8)
    own, colour = load_network(spec(), None, path, in_chans=None), load_network(spec(), None, path, in_chans=3)
    assert own.in_chans == 1
    assert torch.allclose(own(grey), colour(grey.expand(-1, 3, -1, -1)), atol=1e-6)


def test_other_stems() -> None:
    weight = torch.randn(4, 5, 3)
    assert adapt_stem(weight, 5) is weight
    assert torch.equal(adapt_stem(weight, 1), weight.sum(1, keepdim=True))
    assert adapt_stem(weight, 12).shape == (4, 12, 3)
    assert list(first_convolutions(nn.Sequential(nn.Linear(2, 2), nn.Conv1d(3, 4, 1)))) == ["1.weight"]
    assert first_convolutions(nn.Linear(2, 2)) == {}


def test_only_the_stem_is_adapted(tmp_path: Path) -> None:
    module = timm.create_model("resnet18", num_classes=5)
    path = saved(tmp_path / "x.safetensors", module, layer1__0__conv1__weight=torch.ones(64, 32, 3, 3))
    with pytest.raises(IntegrityError) as caught:
        load_network(timm_spec("resnet18"), None, path, in_chans=1)
    assert "layer1.0.conv1.weight" in caught.value.why
    with pytest.raises(UsageError, match="in_chans"):
        load_network(spec(), None, path, in_chans=0)


# -- random weights and builders -------------------------------------------------------------------------------------


def test_random_weights_are_seeded_and_leave_the_generator() -> None:
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    first, same = load_network(spec(), None, None, seed=1), load_network(spec(), None, None, seed=1)
    assert torch.equal(torch.randn(3), expected)
    other = load_network(spec(), None, None, seed=2, num_classes=3, in_chans=1)
    assert torch.equal(first.module.conv.weight, same.module.conv.weight)
    assert not torch.equal(first.module.conv.weight[:, :1], other.module.conv.weight)
    assert first.module.fc.out_features == 1000
    assert (other.module.fc.out_features, other.in_chans) == (3, 1)
    assert (first.weights, first.weights_id, first.training) == (None, None, False)


def test_a_builder_with_a_default_class_count() -> None:
    def build(*, num_classes: int = 10, in_chans: int = 3) -> nn.Module:
        return Tiny(num_classes, in_chans)

    assert load_network(spec(build), None, None).module.fc.out_features == 10


def test_options_reach_the_builder_only_where_allowed(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.safetensors", tiny(width=6))
    weights = Weights(name="tiny.a", backbone="tiny", source=f"file:{path}", options={"width": 6})
    assert load_network(spec(options=("width",)), weights, path).module.conv.out_channels == 6
    with pytest.raises(RegistryError, match="no option 'width'"):
        load_network(spec(), weights, path)


@pytest.mark.parametrize("build", [lambda **_: 3, lambda **_: 1 / 0, lambda: None, "no_such_module:build"])
def test_a_builder_that_fails_is_named(build: Any, file: Path) -> None:
    for path in (None, file):
        with pytest.raises(PluginError):
            load_network(spec(build), None, path)


def test_a_parameter_outside_the_modules_tables_is_refused(tmp_path: Path) -> None:
    class Hidden(Tiny):
        def __init__(self, num_classes: int, in_chans: int = 3) -> None:
            super().__init__(num_classes, in_chans)
            self.hidden = [nn.Parameter(torch.ones(2))]

    with pytest.raises(PluginError, match="hidden"):
        load_network(spec(Hidden), None, saved(tmp_path / "x.safetensors"))


# -- parameters of several names -------------------------------------------------------------------------------------


class Tied(nn.Module):
    def __init__(self, num_classes: int, in_chans: int = 3) -> None:
        super().__init__()
        self.first = nn.Linear(4, num_classes, bias=False)
        self.fc = nn.Linear(4, num_classes, bias=False)
        self.fc.weight = self.first.weight


@pytest.mark.parametrize("missing", [None, "first__weight", "fc__weight"])
def test_tied_parameters_stay_one(missing: str | None, tmp_path: Path) -> None:
    # As safetensors' own `save_model` writes them: once.
    path = saved(tmp_path / "x.safetensors", Tied(6), **({missing: None} if missing else {}))
    network = load_network(spec(Tied, head="fc"), Weights("tiny.a", "tiny", f"file:{path}", num_classes=6), path)
    assert network.module.fc.weight is network.module.first.weight
    assert torch.equal(network.module.fc.weight, next(iter(load_file(path).values())))
    assert network.module.fc.weight.requires_grad


def test_tied_parameters_must_agree(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.safetensors", Tied(6), first__weight=torch.ones(6, 4))
    with pytest.raises(IntegrityError, match="is not for tiny") as caught:
        load_network(spec(Tied, head="fc"), None, path)
    assert "one in the network and two in the file" in caught.value.why
    path = saved(tmp_path / "y.safetensors", Tied(6), first__weight=None, fc__weight=None)
    with pytest.raises(IntegrityError, match="is not for tiny"):
        load_network(spec(Tied, head="fc"), None, path)
