"""The objective of a fit: a weighted sum of losses, and what some of them need beside the student.

Letters: `B` batch, `S` states.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType

import torch
from torch import Tensor, nn

from kd_agent import plugins
from kd_agent.errors import KDError
from kd_agent.networks import LAYER, ActionHead, PolicyOutput, Softening, Teacher
from kd_agent.policies import Array


@dataclass(frozen=True)
class Objective:
    """A weighted sum of losses.

    Attributes:
        weights: Weight of each loss by plug-in name.
        softening: Temperature and convention for the losses that use them.
        student_layer: The student's layer that losses of features compare; None: the last hidden one.
    """

    weights: Mapping[str, float]
    softening: Softening = field(default_factory=Softening)
    student_layer: str | None = None

    def plugins(self) -> dict[str, ModuleType]:
        """The losses that count; KDError where none does."""
        found = {name: plugins.load("losses", name) for name, weight in self.weights.items() if weight}
        if not found:
            raise KDError("every weight of the loss is 0")
        return found

    def check(self, target: PolicyOutput, head: ActionHead) -> None:
        """Require a teacher's answer to serve every loss.

        Args:
            target: What the teacher does in a few states.
            head: Its action head.

        Raises:
            KDError: It does not; the message names the loss and what would fit.
        """
        for name, plugin in self.plugins().items():
            if LAYER in needs([name]) and LAYER not in target.features:
                raise KDError(f"the loss {name!r} needs a layer of the teacher, and none of this one's is known")
            if "value" in needs([name]) and target.value is None:
                raise KDError(f"the loss {name!r} needs the teacher's critic, and this one has none that is read")
            # A loss that cannot serve this head says so itself; the teacher is the student that fits for sure.
            plugin.loss(target, target, head, self.softening)


class BoundObjective(nn.Module):
    """An objective for one student and one teacher's labels, with what is fitted beside the student.

    Args:
        objective: What to minimise.
        head: The action head of both.
        output: What the student answers to a few states.
        target: What the teacher does.
        values: The teacher's values of all states, `[S]`; they are compared in their standard deviations.
    """

    def __init__(
        self, objective: Objective, head: ActionHead, output: PolicyOutput, target: PolicyOutput, values: Array | None
    ) -> None:
        super().__init__()
        self.objective = objective
        self.head = head
        self.layer: str | None = None
        self.terms = objective.plugins()
        self.mean = 0.0
        self.std = 1.0
        if values is not None:
            self.mean = float(values.mean())
            # A critic that says the same of every state has no standard deviation to divide by.
            self.std = float(values.std()) or 1.0
        self.projectors = nn.ModuleDict()
        if LAYER not in needs(self.terms):
            return
        if not output.features:
            raise KDError("this student has no layer whose features could be compared; take another --loss or --hidden")
        self.layer = objective.student_layer or list(output.features)[-1]
        own_width = output.layer(self.layer, "the student").shape[1]
        teacher_width = target.features[LAYER].shape[1]
        for name, plugin in self.terms.items():
            if hasattr(plugin, "PROJECTS"):
                self.projectors[name] = nn.Linear(own_width, teacher_width)

    def forward(self, output: PolicyOutput, target: PolicyOutput) -> Tensor:
        """The weighted sum `[B]`.

        Args:
            output: What the student answers to a batch.
            target: What the teacher does there, with the features of one layer under `LAYER`, and its mask if any.
        """
        if target.value is not None:
            target = replace(target, value=(target.value - self.mean) / self.std)
        # The teacher's rows are masked already: what is forbidden is nobody's choice, and teaches nothing.
        output = replace(output, params=self.head.masked(output.params, target.mask))
        total = torch.zeros(len(output.params), device=output.params.device)
        for name, plugin in self.terms.items():
            # A loss finds the one layer that it compares under `LAYER` on both sides, whatever their names are.
            features = {LAYER: output.features[self.layer]} if self.layer else {}
            if name in self.projectors:
                features = {LAYER: self.projectors[name](features[LAYER])}
            compared = replace(output, features=features)
            loss = plugin.loss(compared, target, self.head, self.objective.softening)
            total = total + self.objective.weights[name] * loss
        return total


def needs(losses: Iterable[str]) -> set[str]:
    """What losses compare beside the action distributions: "layer", "value"."""
    parts: set[str] = set()
    for name in losses:
        parts |= getattr(plugins.load("losses", name), "NEEDS", frozenset())
    return parts


def default_loss(teacher: Teacher) -> dict[str, float]:
    """Squared error of means for Gaussian heads, else KL."""
    if teacher.head.spec.is_gaussian:
        # Errors count in the action's units; a KL would count them in the teacher's standard deviations.
        return {"mse": 1.0}
    return {"kl": 1.0}
