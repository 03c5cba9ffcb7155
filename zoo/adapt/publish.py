"""A fitted learner's backbone becomes new weights in the user's registry."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from zoo.adapt.heads import LINEAR
from zoo.adapt.source import NamedSource
from zoo.catalog.spec import Weights, check_weights
from zoo.errors import UsageError
from zoo.models.tensors import write_tensors
from zoo.weights.register import register_file

if TYPE_CHECKING:
    from zoo.adapt.learner import Learner


def publish(
    learner: Learner, name: str, *, license: str | None = None, replace: bool = False, default: bool | None = None
) -> Weights:
    """Write the backbone, with the learned head as its classifier, into the store and the user's registry.

    Raises:
        UsageError: the name does not fit the architecture or is taken, the backbone is not one of the registry's, or
            the head cannot be its classifier.
    """
    check_publishable(learner)
    source, registry = learner.source, learner.registry
    assert isinstance(source, NamedSource)
    tensors = published_tensors(learner)
    weights = Weights(
        name=name,
        backbone=source.spec.name,
        source="file:",
        default=registry.default_weights(source.spec) is None if default is None else default,
        license=license or (source.weights.license if source.weights else None),
        trained_on=learner.record["data"]["name"],
        num_classes=learner.task.outputs,
        options=source.weights.options if source.weights else {},
        metrics={name: score for name, score in learner.evaluation.scores.items() if score is not None},
        preprocessing=source.preprocessing,
    )
    check_weights(weights)
    registry.settings.home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="publish-", dir=registry.settings.home) as folder:
        path = Path(folder) / "model.safetensors"
        write_tensors(path, tensors, {"classes": json.dumps(list(learner.classes))})
        return register_file(path, weights, registry, replace=replace)


def check_publishable(learner: Learner) -> None:
    """Raise `UsageError` for a learner, fitted or not, whose composition cannot be published."""
    if not isinstance(learner.source, NamedSource):
        raise UsageError("a module of your own has no name to publish under", hint="Register it as a backbone first.")
    if learner.source.tap is not None or getattr(learner.strategy, "head", LINEAR) != LINEAR:
        raise _not_linear()


def published_tensors(learner: Learner) -> dict[str, Tensor]:
    """The backbone's own tensor names, with the learned head in the classifier's place."""
    network, head = learner.model.backbone, learner.model.head
    if not isinstance(head, nn.Linear) or network.tap is not None or len(network.head_names) != 1:
        raise _not_linear()
    place = network.head_names[0]
    tensors = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith(f"{place}.")}
    return {**tensors, f"{place}.weight": head.weight, f"{place}.bias": head.bias}


def _not_linear() -> UsageError:
    return UsageError(
        "only a linear head at the default tap can be published",
        why="The published network's classifier is the learned head.",
        hint="Fit with head=linear and without a tap, or save the run instead.",
    )
