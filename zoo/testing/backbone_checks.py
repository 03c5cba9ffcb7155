"""What a backbone is held to: its declared facts are those of the network it builds, and the network is sound."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from zoo.catalog import targets
from zoo.catalog.spec import Weights
from zoo.errors import ZooError
from zoo.models.load import load_network
from zoo.models.network import Network
from zoo.models.restore import restore_network
from zoo.models.stages import HEAD, inside
from zoo.models.tensors import read_tensors, write_tensors
from zoo.settings import Settings
from zoo.testing.backbone_bench import CLASSES, ROWS, BackboneBench, each, head_of
from zoo.testing.findings import ContractError, SkippedCheck, expect, fail, named

#: Largest difference, relative to the largest value, between a row alone and the same row in a batch.
TOLERANCE: Final = 1e-3

_KEEP: Final = (
    "Keep every layer in a module (nn.ModuleList, not a list), and all else that the forward pass uses in buffers "
    "(register_buffer), or compute it without randomness."
)


def builds(bench: BackboneBench) -> None:
    """`build` exists, takes num_classes, in_chans and every declared option, and gives an nn.Module."""
    spec = bench.spec
    build = targets.load(spec.build, plugin=spec.plugin)
    try:
        parameters = inspect.signature(build).parameters.values()
    except (TypeError, ValueError):
        parameters = ()  # type: ignore[assignment]
    if parameters and not any(one.kind is one.VAR_KEYWORD for one in parameters):
        taken = {one.name for one in parameters if one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD)}
        lacking = [name for name in ("num_classes", "in_chans", *spec.options) if name not in taken]
        expect(
            not lacking,
            f"build takes no {' and no '.join(lacking)}",
            "Write build(*, num_classes, in_chans=3, **options), with every name that options=(...) declares.",
        )
    assert bench.small is not None


def params(bench: BackboneBench) -> None:
    """`params` counts the parameters, default head included, for three input channels."""
    module = bench.module if bench.channels == 3 else bench.builder.on_meta(num_classes=None, in_chans=3)
    found = _count(module)
    if found != bench.spec.params and bench.default_head_is_hidden:
        with torch.device("meta"):
            found = _count(bench.builder.build(in_chans=3))
    expect(
        found == bench.spec.params,
        f"it has {found:,} parameters with {bench.builder.default_classes()} classes (build's default, else 1000) and "
        f"three channels, and declares {bench.spec.params:,}",
        f"Write params={found:_}.",
    )


def head(bench: BackboneBench) -> None:
    """`head` is the classifier: it exists, it alone depends on the number of classes, and it gives the logits."""
    heads, small = head_of(bench.module, bench.spec), _shapes(bench.small)
    classes = bench.builder.default_classes()
    shapes = _shapes(
        bench.module if classes else bench.builder.on_meta(num_classes=CLASSES + 1, in_chans=bench.channels)
    )
    differ = [name for name in {**shapes, **small} if shapes.get(name) != small.get(name)]
    outside = [name for name in differ if not any(inside(name, head) for head in heads)]
    expect(
        not outside,
        f"with another number of classes {outside[0] if outside else ''} changes too, and lies outside the head "
        f"{', '.join(heads)}",
        f'Write head="{(outside or [""])[0].rpartition(".")[0]}", the dotted name of the classifier.',
    )
    expect(
        differ,
        f"the head {', '.join(heads)} does not depend on num_classes",
        "Let build make the classifier with num_classes outputs, and name it: head=...",
    )
    logits = bench.seen.logits
    if not isinstance(logits, Tensor):
        fail(f"a forward pass gives {type(logits).__name__}, not a tensor", "Return the logits (N, num_classes).")
    outputs = classes or bench.measured.num_features
    expect(
        logits.shape == (ROWS, outputs),
        f"a forward pass of {ROWS} rows gives {tuple(logits.shape)}, not ({ROWS}, {outputs})",
        "Return the logits (N, num_classes) of the classifier.",
    )
    scores = bench.seen.scores
    if bench.runs and isinstance(scores, Tensor) and scores.shape == logits.shape:
        gap = ((scores - logits).abs().max() / logits.abs().max().clamp_min(1e-12)).item()
        expect(
            gap <= TOLERANCE,
            f"a forward pass gives other numbers than the head {heads[0]} does: they differ by {gap:.1%}",
            "Return what the classifier gives: no softmax and no factor behind it, which another head would not get.",
        )


def num_features(bench: BackboneBench) -> None:
    """`num_features` is the width of what enters the classifier."""
    found = bench.measured.num_features
    expect(
        found == bench.spec.num_features,
        f"the features that enter {', '.join(bench.network.head_names)} are {found} wide, and it declares "
        f"{bench.spec.num_features}",
        f"Write num_features={found}, or name the right classifier: head=...",
    )


def input_size(bench: BackboneBench) -> None:
    """It eats rows of `input_size`, and its preprocessing makes such rows."""
    spec = bench.spec
    declared = spec.preprocessing.input_size if spec.preprocessing else spec.input_size
    expect(
        tuple(declared) == tuple(spec.input_size),
        f"its preprocessing makes rows of {tuple(declared)}, and input_size is {spec.input_size}",
        f"Write the same in both: input_size={tuple(declared)}.",
    )
    try:
        assert bench.seen
    except SkippedCheck:
        raise
    except Exception as error:
        fail(
            f"rows of input_size {spec.input_size} do not go through it: {type(error).__name__}: {error}",
            "Write the input_size that it eats, or correct its forward pass.",
        )


def channels(bench: BackboneBench) -> None:
    """A picture backbone can be built for one channel."""
    spec = bench.spec
    module = bench.builder.on_meta(num_classes=CLASSES, in_chans=1).eval()
    image = torch.empty(ROWS, 1, *spec.input_size[1:], device="meta")
    if not _on_meta(module):
        image = torch.zeros_like(image, device="cpu")
    try:
        with torch.no_grad(), torch.device(image.device):
            module(image)
    except Exception as error:
        fail(
            f"built with in_chans=1 it does not take pictures of one channel: {type(error).__name__}: {error}",
            "Give in_chans to the first convolution.",
        )


def stages(bench: BackboneBench) -> None:
    """Every parameter lies in exactly one declared stage, and the stages follow the forward pass, stem to head."""
    spec, module = bench.spec, bench.module
    heads = head_of(module, spec)
    if spec.stages:
        _check_declared(spec.stages, module, heads)
    order = bench.seen.order
    said: Mapping[str, tuple[str, ...]] = spec.stages or {}
    ends = {stage: names[-1] for stage, names in said.items() if names[-1] in order}
    for stage, names in said.items():
        ran = [name for name in names if name in order]
        last = max(ran, key=lambda name: len(order) - order[::-1].index(name), default=None)
        expect(
            last in (None, names[-1]),
            f"in the stage {stage!r} the module {last} runs after {names[-1]}, which is listed last",
            f"List {last} last: that is where the stage is tapped.",
        )
    ordered = sorted(ends, key=lambda stage: order.index(ends[stage]))
    expect(
        ordered == list(ends),
        f"the stages run in the order {', '.join(ordered)}, and are declared as {', '.join(ends)}",
        "Declare them stem to head, as they run.",
    )


def _check_declared(said: Mapping[str, tuple[str, ...]], module: nn.Module, heads: tuple[str, ...]) -> None:
    known = {*dict(module.named_modules()), *dict(module.named_parameters())}
    for stage, names in said.items():
        expect(stage != HEAD, "a stage is called 'head', which is the classifier's name", "Rename that stage.")
        for name in names:
            expect(
                name in known and name,
                f"the stage {stage!r} names {name!r}, which the network does not have",
                "Give dotted names as named_modules() has them.",
            )
    owners = [*(name for names in said.values() for name in names), *heads]
    for parameter, _ in module.named_parameters():
        holding = [owner for owner in owners if inside(parameter, owner)]
        expect(
            len(holding) == 1,
            f"the parameter {parameter} is in {len(holding)} stages: {', '.join(holding) or 'none'}",
            "Let every parameter but the classifier's be in exactly one stage, or leave `stages` out.",
        )


def taps(bench: BackboneBench) -> None:
    """Features can be read at every stage: finite, (N, D)."""
    seen = bench.seen
    for tap in bench.network.taps():
        found = seen.taps.get(tap)
        if not isinstance(found, Tensor):
            fail(
                f"the stage {tap!r} cannot be tapped: {found or 'the module that ends it is not called'}",
                "End each stage with a module that is called before the classifier, and declare stages=... so.",
            )
        expect(
            found.ndim == 2 and len(found) == ROWS,
            f"the tap {tap!r} gives {tuple(found.shape)}, not ({ROWS}, D)",
            "Let every stage give one row of features, or one map or one row of tokens, for each row of the batch.",
        )
        if bench.runs:
            _expect_finite(found, f"the features at the tap {tap!r}")


def gmacs(bench: BackboneBench) -> None:
    """`gmacs`, where it is declared, is what one row costs, to 2 %."""
    from zoo.testing.facts import observe, significant

    spec = bench.spec
    assert spec.gmacs is not None
    if bench.runs:  # on the meta device, for kernels of a processor may count otherwise
        module = bench.builder.on_meta(num_classes=None, in_chans=bench.channels)
        if not _on_meta(module):
            raise SkippedCheck("it cannot be built on the meta device, where they are counted")
        found = observe(module, spec.input_size, spec.head).gmacs
    else:
        found = significant(bench.seen.gmacs)
    expect(
        abs(found - spec.gmacs) <= 0.02 * found,
        f"one row costs {found} billion multiply-accumulates, and {spec.gmacs} are declared",
        f"Write gmacs={found}.",
    )


# -- checks that need numbers ------------------------------------------------------------------------------------------


def seed(bench: BackboneBench) -> None:
    """Two networks built under one seed are the same."""
    again = bench.build().state_dict()
    differ = [name for name, tensor in bench.module.state_dict().items() if not _same(tensor, again[name])]
    expect(
        not differ,
        f"two networks built under one seed differ in {(differ or [''])[0]}",
        "Draw initial values from torch's own generator (torch.nn.init), which the core seeds.",
    )
    expect(
        len({bench.state_after(one) for one in (1, 2)}) == 2,
        "build seeds torch's generator itself, so that every seed gives the same network",
        "Take torch.manual_seed out of it: the core seeds the generator before it builds.",
    )


def evaluation_mode(bench: BackboneBench) -> None:
    """In evaluation mode features are finite and the same each time; the network and the input stay as they were."""
    before, x = _copies(bench.module), each(bench.input, Tensor.clone)
    with torch.random.fork_rng(devices=[]):
        state = torch.default_generator.manual_seed(13).get_state()
        first = bench.call(bench.network.features, x)
        drawn = not torch.equal(state, torch.get_rng_state())
    second = bench.call(bench.network.features)
    now = bench.module.state_dict()
    changed = [name for name, tensor in before.items() if not _same(tensor, now[name])]
    expect(
        not changed,
        f"a forward pass in evaluation mode changed {(changed or [''])[0]}",
        "Let normalisation follow self.training: no train() of your own, and F.batch_norm(training=self.training).",
    )
    _expect_finite(first, "the features")
    expect(
        _same(first, second),
        "the same rows gave other features the second time, in evaluation mode",
        "Draw nothing at random in evaluation mode: nn.Dropout, or F.dropout(x, training=self.training).",
    )
    parts = zip(_parts(x), _parts(bench.input), strict=True)
    expect(
        all(_same(one, other) for one, other in parts),
        "a forward pass changed its own input",
        "Write nothing into the input: no inplace=True before the first layer.",
    )
    expect(
        not drawn,
        "a forward pass in evaluation mode drew random numbers, or seeded torch's generator",
        "Leave random numbers alone there: all that is drawn later would be other than it was.",
    )


def batches(bench: BackboneBench) -> None:
    """A row's features do not depend on the rows beside it."""
    together = bench.features
    scale = together.abs().max().clamp_min(1e-12)
    for row in range(ROWS):
        alone = bench.call(bench.network.features, each(bench.input, partial(torch.narrow, dim=0, start=row, length=1)))
        gap = ((alone[0] - together[row]).abs().max() / scale).item()
        expect(
            gap <= TOLERANCE,
            f"the features of a row alone differ from those of the same row in a batch by {gap:.1%}",
            "Let no row see another in evaluation mode: no batch statistics, no mean over the first dimension.",
        )


def gradients(bench: BackboneBench) -> None:
    """Every stage can be trained: the features give it a gradient, and a finite one."""
    module, network = bench.module, bench.network
    try:
        with torch.enable_grad():
            found = network.features(bench.input)
            expect(
                found.requires_grad,
                "the features carry no gradient",
                "Take no_grad(), detach() and requires_grad_(False) out of the forward pass: the core freezes.",
            )
            (found * torch.randn(found.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
        for stage, names in network.stages().items():
            got = [gradient for name in names if (gradient := module.get_parameter(name).grad) is not None]
            if stage == HEAD:
                continue
            expect(
                got,
                f"the stage {stage!r} gets no gradient",
                "Let the forward pass use its parameters, and take no_grad() and detach() out of it.",
            )
            expect(
                all(gradient.isfinite().all() for gradient in got),
                f"the gradient of the stage {stage!r} is not finite",
                "Look for a division or a root of 0 in the forward pass.",
            )
    finally:
        for parameter in module.parameters():
            parameter.grad = None
    _expect_training_mode(bench)


def _expect_training_mode(bench: BackboneBench) -> None:
    before = _copies(bench.module)
    try:
        with torch.random.fork_rng(devices=[]):
            bench.call(bench.network.train().features)
    except Exception as error:
        fail(
            f"in training mode rows do not go through it: {type(error).__name__}: {error}",
            "Let the forward pass work with self.training true: fine-tuning runs it so.",
        )
    finally:
        bench.network.eval()
        bench.module.load_state_dict(before)


def round_trip(bench: BackboneBench) -> None:
    """Saved as safetensors and loaded again by the zoo, with its classifier and without, it gives the same features."""
    spec, expected, logits = bench.measured, bench.features, bench.seen.logits
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{spec.name}.safetensors"
        state = bench.module.state_dict()
        others = [name for name, value in state.items() if not isinstance(value, Tensor)]
        expect(
            not others, f"its state holds {(others or [''])[0]}, which is no tensor", "Keep tensors in the state only."
        )
        write_tensors(path, state)
        try:
            again = load_network(spec, None, path, in_chans=bench.channels, settings=Settings(home=Path(folder)))
            found = [bench.call(again.features), bench.call(again)]
            headless = _without_head(bench, path)
            found.append(bench.call(headless.features))
        except Exception as error:
            said = error.message if isinstance(error, ZooError) else f"{type(error).__name__}: {error}"
            raise ContractError(f"saved and loaded again, it fails: {said}", _KEEP) from error
        del again, headless  # Windows removes no file that is mapped
    _expect_close(found[0], expected, "features")
    _expect_close(found[1], logits, "logits")
    _expect_close(found[2], expected, "features of the network without its classifier")


def _without_head(bench: BackboneBench, path: Path) -> Network:
    """As a saved run keeps it."""
    heads = head_of(bench.module, bench.spec)
    tensors = {
        name: tensor for name, tensor in read_tensors(path).items() if not any(inside(name, head) for head in heads)
    }
    spec = bench.measured
    bare = Weights(name=f"{spec.name}.kit", backbone=spec.name, source="", num_classes=bench.builder.default_classes())
    return restore_network(
        spec, tensors, weights=bare, in_chans=bench.channels, tap=None, preprocessing=None, where=path
    )


def _expect_close(found: Tensor, expected: Tensor, what: str) -> None:
    gap = ((found - expected).abs().max() / expected.abs().max().clamp_min(1e-12)).item()
    expect(
        gap <= TOLERANCE,
        f"saved and loaded again, the {what} differ by {gap:.1%}",
        _KEEP,
    )


#: Checks of shapes: they run for every backbone, on the meta device where it is not run.
SHAPE_CHECKS = named((builds, params, head, num_features, input_size, stages, taps, gmacs))
#: Checks of those that are run.
NUMBER_CHECKS = named((channels, seed, evaluation_mode, batches, gradients, round_trip))


# -- helpers -----------------------------------------------------------------------------------------------------------


def _parts(x: Any) -> list[Tensor]:
    if isinstance(x, Mapping):
        return list(x.values())
    return list(x) if isinstance(x, (tuple, list)) else [x]


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _on_meta(module: nn.Module) -> bool:
    return all(parameter.is_meta for parameter in module.parameters())


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def _copies(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(torch.nan_to_num(one), torch.nan_to_num(other))


def _expect_finite(found: Tensor, what: str) -> None:
    expect(
        found.isfinite().all(),
        f"{what} are not finite",
        "Scale the initial values (torch.nn.init), and look for a division by 0.",
    )
