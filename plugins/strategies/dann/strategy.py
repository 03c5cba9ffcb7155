"""Domain-adversarial training (Ganin et al. 2016, arXiv:1505.07818)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from torch import Tensor, nn
from zoo_plugins.strategies.dann.reversal import DomainHead, domain_loss, reverse, schedule
from zoo_plugins.strategies.fine_tune.strategy import Tuning, stage_factors
from zoo_plugins.strategies.linear_probe.start import probe

from zoo.adapt.strategy import Batch, Context, Model, at_least_zero, positive, task_loss
from zoo.errors import UsageError
from zoo.models.stages import HEAD

#: The extra module that tells domains apart.
DOMAIN: Final = "domain"
WARNING: Final = (
    "dann trains the features against a classifier of domains, which is unstable and can hurt: judge it by labelled "
    "rows of the target's domain, beside the source-only figure. How well the domains are told apart says nothing"
)


@dataclass(frozen=True, kw_only=True)
class DANN(Tuning):
    """The task's loss on labelled rows, and features on which a small classifier cannot tell them from the target's.

    The classifier learns to tell the domains apart on the pooled features of all rows; through a layer that reverses
    gradients the backbone learns the opposite, with strength lambda = strength (2 / (1 + exp(-gamma p)) - 1) at the
    part p of the fit's steps. Beside the fit's own figure stands that of the source alone: the linear probe on the
    labelled features that the fit starts from, judged by the same rows.

    Args:
        strength: what lambda rises to; 0 = the domains are not brought together.
        gamma: how fast it rises.
        hidden: units of the domain classifier, which is dropped when the run is saved.

    Options that other strategies have too are those of fine-tuning. With `early_stop`, rows of the source decide.
    """

    strength: float = 1.0
    gamma: float = 10.0
    hidden: int = 128

    needs: ClassVar[frozenset[str]] = frozenset({"target"})
    min_steps: ClassVar[int] = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_zero(self, "strength")
        positive(self, "gamma", "hidden")

    def prepare(self, model: Model, context: Context) -> dict[str, nn.Module]:
        """Start the head, note what it is worth, and make the domain classifier.

        Raises:
            UsageError: no target.
        """
        if context.target is None:
            raise UsageError("dann needs unlabelled target data", hint="Give it: fit(train, target=...).")
        extras = super().prepare(model, context)
        context.notes.append(WARNING)
        stages = tuple(model.stages())
        factors = stage_factors(stages, self.freeze, self.layer_decay)
        if self.strength and not any(factors[stage] for stage in stages[: stages.index(HEAD)]):
            context.notes.append(
                f"with freeze={self.freeze} dann trains nothing of this backbone: the reversed gradients reach no "
                "weights, and the domains stay as far apart as they were"
            )
        if context.beside is not None and context.features is not None:
            started = self.init == "probe" and self.head == "linear"
            context.beside("source-only", model.head if started else probe("linear", *context.features(), context))
        return {**extras, DOMAIN: DomainHead(model.backbone.num_features, self.hidden)}

    def loss(self, model: Model, batch: Batch, context: Context) -> dict[str, Tensor]:
        """The sum, and both parts: "task" and "domain"; and "lambda"."""
        features = model.features(batch.x)
        known = batch.labelled
        task = task_loss(model.head(features[known]), batch.y[known], context.task) * batch.labelled_share
        reversal = self.strength * schedule(batch.progress, self.gamma)
        assert context.targets is not None
        share = 1 - len(context.targets) / context.rows
        domain = domain_loss(model.extras[DOMAIN](reverse(features, reversal)), ~known, share)
        return {"loss": task + domain, "task": task, "domain": domain, "lambda": task.new_tensor(reversal)}
