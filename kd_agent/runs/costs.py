"""What a run costs: one ledger of environment steps, gradient steps and seconds, each under the name of its purpose."""

import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager

import numpy as np

from kd_agent.policies import Array

_PREFIX = "cost."
ENV_STEPS = (
    "selection_steps",  # what several teachers are worth
    "collect_steps",  # labelled states
    "validation_steps",  # which fit is the best
    "verdict_steps",  # the verdict
    "agreement_steps",  # KL and agreement on the student's own episodes
)
"""What environments are stepped for."""
PPO_STEPS = "ppo_steps"
"""Steps of a PPO that goes on from a student; as those of its selection, only in the ledger of a run that has it."""
PPO_SELECTION_STEPS = "ppo_selection_steps"
"""What chooses the best student of that PPO, and then between it and the one that PPO began with."""


class Costs:
    """The ledger.

    Attributes:
        counts: Steps by purpose: those of environments (`ENV_STEPS` and PPO's), and `gradient_steps`.
        seconds: Wall-clock seconds by stage: `teacher_s`, `distill_s`, `evaluate_s`, ...
        cpu_seconds: The CPU seconds of this process, by the same stages.
    """

    def __init__(self) -> None:
        # What a reader of the result looks for is there, spent or not. The keys are part of the file's contract.
        self.counts = dict.fromkeys((*ENV_STEPS, "gradient_steps"), 0)
        self.seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}
        self._open: list[str] = []
        self._since = 0.0
        self._cpu_since = 0.0

    def add(self, purpose: str, steps: int) -> None:
        """Book steps.

        Args:
            purpose: What they were for.
            steps: How many.
        """
        self.counts[purpose] = self.counts.get(purpose, 0) + steps

    def of(self, purpose: str) -> int:
        """Steps booked so far for a purpose."""
        return self.counts.get(purpose, 0)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Book a block's seconds; those of a block within it are that one's alone."""
        # What has passed so far is the outer stage's: no second is booked twice, and the stages add up to the run.
        self._book_seconds()
        self._open.append(stage)
        try:
            yield
        finally:
            # Also where the block failed: what the way out takes is the outer stage's.
            self._book_seconds()
            self._open.pop()

    def arrays(self) -> dict[str, Array]:
        """The counts, for a checkpoint: what a killed process did after it is done again, and counted then."""
        return {_PREFIX + purpose: np.array(steps) for purpose, steps in self.counts.items()}

    def restore(self, arrays: MutableMapping[str, Array]) -> None:
        """Take the counts out of a checkpoint's arrays; they replace those booked so far."""
        # Also those of a purpose that the checkpoint does not know: it had none then.
        self.counts = dict.fromkeys(self.counts, 0)
        for name in list(arrays):
            if name.startswith(_PREFIX):
                self.counts[name.removeprefix(_PREFIX)] = int(arrays.pop(name))

    def to_json(self) -> dict[str, float]:
        """Counts, and seconds to the hundredth, by name; those of the present stage up to now.

        `all_env_steps` is the sum of all steps of environments, `env_steps` those of the labels alone.
        """
        self._book_seconds()
        entries: dict[str, float] = dict(self.counts)
        entries["env_steps"] = self.of("collect_steps")
        entries["all_env_steps"] = sum(map(self.of, (*ENV_STEPS, PPO_STEPS, PPO_SELECTION_STEPS)))
        for stage, spent in self.seconds.items():
            entries[stage] = round(spent, 2)
            entries[stage.removesuffix("_s") + "_cpu_s"] = round(self.cpu_seconds[stage], 2)
        return entries

    def _book_seconds(self) -> None:
        now = time.monotonic()
        cpu_now = time.process_time()
        if self._open:
            stage = self._open[-1]
            self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._since
            self.cpu_seconds[stage] = self.cpu_seconds.get(stage, 0.0) + cpu_now - self._cpu_since
        self._since = now
        self._cpu_since = cpu_now
