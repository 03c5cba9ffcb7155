"""AdaBN: every domain is normalised by its own statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from zoo_plugins.strategies.adabn.statistics import reestimate
from zoo_plugins.strategies.linear_probe.strategy import LinearProbe

from zoo.adapt.strategy import Context, positive
from zoo.data.dataset import TRAIN
from zoo.errors import UsageError
from zoo.models.network import Network


@dataclass(frozen=True, kw_only=True)
class AdaBN(LinearProbe):
    """The linear probe, with BatchNorm statistics of each domain's own.

    The head is solved on features read with the statistics of the training rows; the network is left with those of
    the target rows, so that target rows reach the head normalised as training rows did. No weight changes. Rows of
    the training domain are foreign to what is left: judge it by labelled rows of the target's domain (`val=` or
    `evaluate`).

    Args:
        rows: most rows of each domain whose statistics are taken, chosen by their hashes; statistics take one pass
            per BatchNorm layer (see `reestimate`). None = all.

    All other options are the linear probe's.
    """

    rows: int | None = 512

    needs: ClassVar[frozenset[str]] = frozenset({"target", "batchnorm"})

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "rows")

    def prepare(self, network: Network, context: Context) -> set[str]:
        """Statistics of the training rows."""
        return self._reestimate(network, context, TRAIN)

    def finish(self, network: Network, context: Context) -> set[str]:
        """Statistics of the target rows."""
        return self._reestimate(network, context, "target")

    def _reestimate(self, network: Network, context: Context, rows: str) -> set[str]:
        if context.inputs is None:
            raise UsageError("adabn needs unlabelled target data", hint="Give it: fit(train, target=...).")
        return reestimate(network, context.inputs(rows, self.rows), context)
