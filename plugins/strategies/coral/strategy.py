"""CORAL: the linear probe on aligned features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from zoo_plugins.strategies.coral.align import align
from zoo_plugins.strategies.linear_probe.strategy import LinearProbe

from zoo.adapt.spectrum import check_features
from zoo.adapt.strategy import Context, positive
from zoo.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Coral(LinearProbe):
    """The linear probe, on training features that were given the mean and covariance of unlabelled target features.

    The head is for rows of the target's domain and takes their features as they are. Rows of the training domain are
    foreign to it: judge it by labelled rows of the target's domain (`val=` or `evaluate`).

    Args:
        shrinkage: added to the diagonal of both covariances, in units of their mean variance. Near 0 the covariance
            is matched exactly, which few rows do not support; far above 1 only the mean is.

    All other options are the linear probe's.
    """

    shrinkage: float = 1.0

    needs: ClassVar[frozenset[str]] = frozenset({"target"})

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "shrinkage")

    def training_features(self, features: Tensor, context: Context) -> Tensor:
        """All views, aligned with the target."""
        if context.target is None:
            raise UsageError("coral needs unlabelled target data", hint="Give it: fit(train, target=...).")
        check_features(features)
        target = context.target()
        check_features(target)
        return align(features, target, self.shrinkage)(super().training_features(features, context))
