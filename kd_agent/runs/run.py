"""A run in progress: what it is about, who teaches, what it may do, and where it writes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from kd_agent.environments import Recipe
from kd_agent.networks import Teacher
from kd_agent.policies import ObservationSpec
from kd_agent.runs.costs import Costs
from kd_agent.runs.folder import RunFolder
from kd_agent.runs.plan import Plan
from kd_agent.runs.reporter import Reporter
from kd_agent.runs.seeds import seed_of
from kd_agent.settings import DistillConfig


@dataclass(frozen=True)
class Run:
    """A run in progress.

    Attributes:
        config: What was asked for.
        plan: What is done.
        recipe: The environment.
        observed: What the student sees of an observation, by key.
        teacher: Who labels.
        folder: Where the run writes.
        reporter: What it shows.
        events: TensorBoard.
        costs: What it has cost so far.
    """

    config: DistillConfig
    plan: Plan
    recipe: Recipe
    observed: Mapping[str, ObservationSpec]
    teacher: Teacher
    folder: RunFolder
    reporter: Reporter
    events: SummaryWriter
    costs: Costs

    def seed(self, purpose: str, number: int = 0) -> int:
        """The seed of one purpose, as `seeds.seed_of` has it.

        Args:
            purpose: What is random.
            number: Which of several.
        """
        return seed_of(self.config.seed, purpose, number)

    def planned(self, **changes: Any) -> "Run":
        """The same run under another plan."""
        return replace(self, plan=replace(self.plan, **changes))

    def settings(self) -> DistillConfig:
        """The settings with the plan in them: what `config.yaml` and the student's file keep."""
        # With the plan in it a resumed run needs no defaults: those of a later version may be others.
        decided = asdict(self.plan)
        if self.config.temperature == "auto":
            # It is still to be chosen: a run that is stopped before must ask again.
            del decided["temperature"]
        # The layers say it now.
        return replace(self.config, **decided, compression=None)
