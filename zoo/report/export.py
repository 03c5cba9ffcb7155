"""Hand a fitted learner over to other programs: ONNX, torch.export, or a folder that plain timm loads.

What is written is loaded again by the other side's own loader and compared with the learner before it gets its name.
"""

from __future__ import annotations

import copy
import inspect
import json
import os
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

from zoo.adapt.extract import to_device
from zoo.adapt.publish import published_tensors
from zoo.adapt.source import NamedSource
from zoo.atomic import write_atomically
from zoo.data.fingerprint import of_bytes
from zoo.data.preprocess import describe
from zoo.errors import TrainingError, UsageError
from zoo.models.network import pool
from zoo.models.tensors import write_tensors
from zoo.weights.files import disk_errors

if TYPE_CHECKING:
    from zoo.adapt.learner import Learner

#: The largest difference of an output that is taken for equal, as a part of the largest output where that is above 1.
PARITY: Final = 1e-4
#: Sizes of the batches that are compared: the number of rows must be free.
_BATCHES: Final = (1, 3)


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: the file or folder.
        format: "onnx", "torch" or "timm".
        parity: the largest difference between its outputs and the learner's, in fp32, as a part of the largest output
            where that is above 1.
        difference: the same in the outputs' own unit.
        sidecar: a JSON file beside it (in the folder, for timm): input, preprocessing, classes, licence, and which
            files it reads with (a tokenizer), which lie beside it too.
    """

    path: Path
    format: str
    parity: float
    difference: float
    sidecar: Path


def export(learner: Learner, path: str | Path, format: str | None = None) -> Exported:
    """Write the fitted network, head included, in fp32: input in, logits (or numbers) out, for any number of rows.

    Args:
        learner: fitted or loaded.
        path: what is written; it must not exist. A folder for timm.
        format: "onnx" (needs the packages onnx, onnxscript and onnxruntime), "torch" (torch.export, .pt2) or "timm";
            None = by the path's ending: .onnx, .pt2, or none for timm.

    Raises:
        UsageError: no format has this ending, the path or its sidecar exists, the composition cannot be written in this
            format, or a package is absent.
        DiskError: it cannot be written there.
        TrainingError: the written network answers otherwise than the learner; nothing is left behind.
    """
    path = Path(path)
    format = format or _format_of(path)
    writers: dict[str, Callable[[Learner, nn.Module, Path], Callable[..., Tensor]]] = {
        "onnx": _write_onnx,
        "torch": _write_torch,
        "timm": _write_timm,
    }
    if format not in writers:
        raise UsageError(f"no format {format!r}", hint=f"One of: {', '.join(writers)}.")
    beside = path / "zoo.json" if format == "timm" else path.with_name(f"{path.name}.json")
    assets = learner.model.backbone.assets
    further = {name: (path / name) if format == "timm" else path.with_name(f"{path.name}.{name}") for name in assets}
    for place in (path, beside, *further.values()):
        with disk_errors("read", place):
            taken = os.path.lexists(place)
        if taken:
            raise UsageError(f"{place} exists", hint="Choose another name.")
    module = plain(learner)
    with disk_errors("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        parts = tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent)
    with parts as folder:
        part = Path(folder) / path.name
        run = writers[format](learner, module, part)
        parity, difference = _parity(learner, run)
        facts = {**_facts(learner), "format": format, "parity": parity, "difference": difference}
        if further:
            facts["files"] = {
                name: {"path": one.name, "sha256": of_bytes(assets[name])} for name, one in further.items()
            }
        for name, place in further.items():
            write_atomically(place, assets[name])
        sidecar = Path(folder) / f"{path.name}.json" if format != "timm" else part / "zoo.json"
        sidecar.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        if format != "timm":
            os.replace(sidecar, beside)
        os.replace(part, path)
    return Exported(path, format, parity, difference, beside)


def _format_of(path: Path) -> str:
    known = {".onnx": "onnx", ".pt2": "torch", "": "timm"}
    if path.suffix.lower() not in known:
        raise UsageError(
            f"the ending {path.suffix!r} of {path} names no format",
            hint="Write .onnx, .pt2, or no ending for a folder of timm's; or say which: onnx, torch or timm (-f).",
        )
    return known[path.suffix.lower()]


def plain(learner: Learner) -> nn.Module:
    """The backbone's own module with the learned head in its classifier's place: no hooks, so that it can be traced.

    Raises:
        UsageError: features are read at another tap, or the architecture has no single classifier.
    """
    network = learner.model.backbone
    if network.tap is not None or len(network.head_names) != 1:
        what = f"its features are read at {network.tap!r}" if network.tap else "it has several classifiers side by side"
        raise UsageError(
            f"{learner.source.name} cannot be exported: {what}",
            why="The exported network is the architecture's own, with the learned head in its classifier's place.",
            hint="Fit without a tap, or keep the saved run: zoo.load reads it anywhere.",
        )
    module = copy.deepcopy(network.module).cpu().float().eval()
    module.set_submodule(network.head_names[0], _Head(copy.deepcopy(learner.model.head).cpu().float().eval()))
    return module.requires_grad_(False)


class _Head(nn.Module):
    """The learned head where the classifier was, whatever shape arrives there."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """(N, C)."""
        return self.head(x if x.ndim == 2 else pool(x))


def _example(learner: Learner, rows: int) -> Any:
    """Random input (N, ...) of the network's shape; of readers that have an `example`, what they make of it."""
    network = learner.model.backbone
    if network.preprocessing is not None and network.preprocessing.kind not in ("image", "tensor"):
        example = getattr(network.reader(), "example", None)
        if example is not None:
            return example(rows)
    shape = network.preprocessing.input_size if network.preprocessing else None
    if network.spec is not None and network.spec.input == "image":
        shape = (network.in_chans, *(shape or network.spec.input_size)[1:])
    if shape is None:
        raise UsageError(
            "the shape of the input is not known", hint="Compose with preprocessing=zoo.Preprocessing(input_size=...)."
        )
    return torch.randn((rows, *shape), generator=torch.Generator().manual_seed(rows))


def _parity(learner: Learner, run: Callable[..., Tensor]) -> tuple[float, float]:
    """The largest difference to the learner's own answers, in fp32: to the largest answer above 1, and as it is."""
    model = learner.model.eval()
    worst = apart = 0.0
    with torch.inference_mode():
        for rows in _BATCHES:
            x = _example(learner, rows)
            expected, found = model(to_device(x, learner.placement)).float().cpu(), run(*_parts(x))
            if found.shape != expected.shape:
                raise TrainingError(
                    f"the exported network gives outputs of shape {tuple(found.shape)}, not {tuple(expected.shape)}",
                    why="Something stands behind the classifier of this architecture.",
                    hint="Keep the saved run: zoo.load reads it anywhere.",
                )
            scale = max(1.0, float(expected.abs().max()))
            difference = float((found - expected).abs().max())
            worst, apart = max(worst, difference / scale), max(apart, difference)
    if not worst <= PARITY:
        raise TrainingError(
            f"the exported network answers otherwise than the learner: by {worst:.2g} of its largest output, "
            f"{PARITY:g} is allowed",
            why="Something stands between the features and the classifier of this architecture.",
            hint="Keep the saved run: zoo.load reads it anywhere.",
        )
    return worst, apart


def _facts(learner: Learner) -> dict[str, Any]:
    """What a program that runs the file has to know."""
    network, weights = learner.model.backbone, learner.source.weights
    return {
        "input": _shapes(learner),
        "preprocessing": describe(network.preprocessing) if network.preprocessing else None,
        "task": learner.task.kind,
        "classes": list(learner.classes),
        "outputs": "logits: softmax gives probabilities"
        if learner.task.kind == "classes"
        else "logits: sigmoid gives probabilities"
        if learner.task.kind == "multi-label"
        else "numbers",
        "backbone": learner.source.name,
        "weights": weights.name if weights else None,
        "license_of_weights": weights.license if weights else None,
        "taught_by": (learner.record.get("resolved") or {}).get("taught_by", []),
    }


def _parts(x: Any) -> tuple[Tensor, ...]:
    return tuple(x) if isinstance(x, (tuple, list)) else (x,)


def _names(module: nn.Module, parts: tuple[Tensor, ...]) -> list[str]:
    """Of the inputs: of several, as the module's own forward pass calls them."""
    if len(parts) == 1:
        return ["input"]
    return list(inspect.signature(module.forward).parameters)[: len(parts)]


def _shapes(learner: Learner) -> Any:
    """Of one row: a list, or of several inputs a list for each, by its name."""
    parts = _parts(_example(learner, 1))
    if len(parts) == 1:
        return list(parts[0].shape[1:])
    names = _names(learner.model.backbone.module, parts)
    return {name: list(part.shape[1:]) for name, part in zip(names, parts, strict=True)}


def _free(parts: tuple[Tensor, ...]) -> tuple[dict[int, Any], ...]:
    """Which sizes stay open: the number of rows."""
    rows = torch.export.Dim("rows", min=1)
    return tuple({0: rows} for _ in parts)


def _write_torch(learner: Learner, module: nn.Module, path: Path) -> Callable[..., Tensor]:
    parts = _parts(_example(learner, 2))
    program = torch.export.export(module, parts, dynamic_shapes=_free(parts))
    torch.export.save(program, path)
    return torch.export.load(path).module()


def _write_onnx(learner: Learner, module: nn.Module, path: Path) -> Callable[..., Tensor]:
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"ONNX needs the package {error.name}", hint="pip install 'transfer-zoo[onnx]', or export with -f torch."
        ) from error
    parts = _parts(_example(learner, 2))
    names = _names(module, parts)
    with warnings.catch_warnings():  # the exporter's own deprecations are no business of the user's
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            parts,
            path,
            dynamo=True,
            verbose=False,
            external_data=False,
            input_names=names,
            output_names=["output"],
            dynamic_shapes=_free(parts),
        )
    made = onnx.load(path)
    for key, value in _facts(learner).items():
        made.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))
    onnx.save(made, path)
    onnx.checker.check_model(made)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda *x: torch.from_numpy(
        session.run(None, {name: part.numpy() for name, part in zip(names, x, strict=True)})[0]
    )


def _write_timm(learner: Learner, module: nn.Module, path: Path) -> Callable[..., Tensor]:
    import timm

    source = learner.source
    if not isinstance(source, NamedSource) or not timm.is_model(source.spec.name):
        raise UsageError(
            f"{source.name} is not an architecture of timm's", hint="Export with -f onnx or -f torch, or keep the run."
        )
    size, kind = tuple(_example(learner, 1).shape[1:]), learner.model.backbone.preprocessing
    config = {
        "architecture": source.spec.name,
        "num_classes": learner.task.outputs,
        "num_features": learner.model.backbone.num_features,
        "model_args": {**learner.model.backbone.options, "in_chans": size[0]},
        "label_names": list(learner.classes),
        "pretrained_cfg": {
            "num_classes": learner.task.outputs,
            "input_size": list(size),
            "license": source.weights.license if source.weights else None,
            **(
                {
                    "mean": list(kind.mean),
                    "std": list(kind.std),
                    "interpolation": kind.interpolation,
                    "crop_pct": kind.crop_pct,
                    "crop_mode": kind.crop_mode,
                }
                if kind
                else {}
            ),
        },
    }
    path.mkdir()
    write_tensors(path / "model.safetensors", published_tensors(learner), {"format": "pt"})
    (path / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    loaded = timm.create_model(f"local-dir:{path}", pretrained=True)
    return loaded.eval()
