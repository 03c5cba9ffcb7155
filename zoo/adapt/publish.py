"""A fitted learner's backbone becomes new weights in the user's registry."""

from __future__ import annotations

import copy
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from zoo.adapt.heads import LINEAR
from zoo.adapt.source import NamedSource
from zoo.catalog import licenses
from zoo.catalog.spec import Weights, check_weights
from zoo.data.fingerprint import of_bytes
from zoo.errors import UsageError
from zoo.models.build import Builder
from zoo.models.load import load_network
from zoo.models.network import Network
from zoo.models.stages import find_head
from zoo.models.tensors import write_tensors
from zoo.weights.register import refuse_taken, register_file

if TYPE_CHECKING:
    from zoo.adapt.learner import Learner


def publish(
    learner: Learner, name: str, *, license: str | None = None, replace: bool = False, default: bool | None = None
) -> Weights:
    """Write the backbone, with the learned head as its classifier, into the store and the user's registry.

    The file is loaded again, and its answers compared with the learner's, before anything is registered.

    Raises:
        UsageError: the name does not fit the architecture or is taken, the backbone is not one of the registry's, or
            the head cannot be its classifier.
    """
    check_publishable(learner)
    source, registry = learner.source, learner.registry
    assert isinstance(source, NamedSource)
    tensors = published_tensors(learner)
    taught = (learner.record.get("resolved") or {}).get("taught_by", [])
    weights = Weights(
        name=name,
        backbone=source.spec.name,
        source="file:",
        default=registry.default_weights(source.spec) is None if default is None else default,
        license=license
        or licenses.joint([source.weights.license if source.weights else None, *(one["license"] for one in taught)]),
        trained_on=", ".join([learner.record["data"]["name"], *(f"taught by {one['name']}" for one in taught)]),
        num_classes=learner.task.outputs,
        options=learner.model.backbone.options,
        metrics={name: score for name, score in learner.evaluation.scores.items() if score is not None},
        preprocessing=learner.model.backbone.preprocessing,
    )
    check_weights(weights)
    if not replace:
        refuse_taken(name, registry)
    metadata = {"classes": json.dumps(list(learner.classes)), "task": learner.task.kind}
    registry.settings.home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="publish-", dir=registry.settings.home) as folder:
        path = Path(folder) / "model.safetensors"
        write_tensors(path, tensors, metadata)
        _expect_same_answers(
            load_network(source.spec, weights, path, in_chans=None, settings=registry.settings), learner
        )
        files = []
        for file, content in learner.model.backbone.assets.items():
            beside = Path(folder) / file
            beside.write_bytes(content)
            files.append({"source": f"file:{beside}", "name": file, "sha256": of_bytes(content), "role": "asset"})
        return register_file(path, dataclasses.replace(weights, files=tuple(files)), registry, replace=replace)


def check_publishable(learner: Learner) -> None:
    """Raise `UsageError` for a learner, fitted or not, whose composition cannot be published."""
    if not isinstance(learner.source, NamedSource):
        raise UsageError("a module of your own has no name to publish under", hint="Register it as a backbone first.")
    if learner.source.tap is not None or getattr(learner.strategy, "head", LINEAR) != LINEAR:
        raise _not_linear()
    _classifier(learner.source)


def published_tensors(learner: Learner) -> dict[str, Tensor]:
    """The backbone's own tensor names, with the learned head in the classifier's place and of its shape."""
    network, head = learner.model.backbone, learner.model.head
    assert isinstance(learner.source, NamedSource)
    if not isinstance(head, nn.Linear) or network.tap is not None:
        raise _not_linear()
    place, classifier = _classifier(learner.source)
    tensors = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith(f"{place}.")}
    weight = head.weight.reshape(head.out_features, *classifier.weight.shape[1:])
    return {**tensors, f"{place}.weight": weight, f"{place}.bias": head.bias}


def _classifier(source: NamedSource) -> tuple[str, nn.Linear | nn.Conv2d]:
    """Name and module (without memory) of the architecture's own classifier.

    Raises:
        UsageError: it is no place for a linear head.
    """
    build = Builder(source.spec, source.weights, source.seed)
    module = build.on_meta(num_classes=None, in_chans=source.in_chans)  # its own default: 0 would leave it out
    names = find_head(module, source.spec.head)
    place = module.get_submodule(names[0])
    linear = isinstance(place, nn.Linear) or (type(place) is nn.Conv2d and place.weight.shape[2:] == (1, 1))
    if len(names) == 1 and linear and place.bias is not None:
        return names[0], place  # type: ignore[return-value]
    has = f"{len(names)} classifiers" if len(names) > 1 else f"{names[0]} is {place}"
    raise UsageError(
        f"a linear head cannot be the classifier of {source.spec.full_name}",
        why=f"The place must be one linear layer, or a 1x1 convolution, with bias; {has}.",
        hint="Save the run instead.",
    )


def _expect_same_answers(published: Network, learner: Learner) -> None:
    """Compare the logits of the written file with the learner's: something may stand between features and head."""
    size = published.preprocessing.input_size if published.preprocessing else None
    if size is None or published.spec is None or published.spec.input not in ("image", "table"):
        return
    if published.spec.input == "image":
        size = (published.in_chans, *size[1:])
    x = torch.randn((2, *size), generator=torch.Generator().manual_seed(0))
    head = copy.deepcopy(learner.model.head).cpu().float()
    with torch.inference_mode():
        expected, found = head(published.features(x)), published(x)
    near = 1e-3 * float(expected.abs().max())
    if (
        not isinstance(found, Tensor)
        or found.shape != expected.shape
        or not torch.allclose(found, expected, 1e-3, near)
    ):
        raise UsageError(
            f"a linear head cannot be the classifier of {published.spec.full_name}",
            why="With the head in its classifier's place the network answers otherwise than the learner does.",
            hint="Save the run instead.",
        )


def _not_linear() -> UsageError:
    return UsageError(
        "only a linear head at the default tap can be published",
        why="The published network's classifier is the learned head.",
        hint="Fit with head=linear and without a tap, or save the run instead.",
    )
