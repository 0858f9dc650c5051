"""What a run costs: one ledger of environment steps, gradient steps and seconds, each under the name of its purpose."""

import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager

import numpy as np

from kd_agent.policies import Array

_PREFIX = "cost."


class Costs:
    """The ledger.

    Attributes:
        counts: Steps by purpose: `env_steps`, `exam_steps`, `gate_steps`, `gradient_steps`.
        seconds: Wall-clock seconds by stage: `teacher_s`, `distill_s`, `evaluate_s`, ...
    """

    def __init__(self) -> None:
        # What a reader of the result looks for is there, spent or not. The keys are part of the file's contract: an
        # exam is what the code calls a validation, a gate the selection of teachers.
        self.counts = dict.fromkeys(("env_steps", "gradient_steps", "exam_steps", "gate_steps"), 0)
        self.seconds: dict[str, float] = {}
        self._open: list[str] = []
        self._since = 0.0

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
        """Counts, and seconds to the hundredth, by name; those of the present stage up to now."""
        self._book_seconds()
        entries: dict[str, float] = dict(self.counts)
        for stage, spent in self.seconds.items():
            entries[stage] = round(spent, 2)
        return entries

    def _book_seconds(self) -> None:
        now = time.monotonic()
        if self._open:
            stage = self._open[-1]
            self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._since
        self._since = now
