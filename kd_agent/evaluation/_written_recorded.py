"""What `result.json` says of a student of recorded data, whose episodes are paired with none, or whom nobody played."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kd_agent.evaluation._written import Claim, Written
from kd_agent.evaluation.comparison import compare_recorded
from kd_agent.evaluation.held_out import measure_held_out
from kd_agent.evaluation.parts import Verdict
from kd_agent.evaluation.unplayed import NEVER_PLAYED
from kd_agent.policies import Policy
from kd_agent.teachers import RecordedTeacher


class WrittenRecorded(Written):
    """As `Written`, where the teacher is a recording."""

    paired = False

    def compare(self, students: Any, error: float) -> Verdict:
        """The verdict on returns that are paired with none.

        Args:
            students: `[n]`.
            error: Of the look.
        """
        teacher, random = self.returns("teacher"), self.returns("random")
        return compare_recorded(teacher, students, random, margin=self._margin, error=error)


class WrittenUnplayed(WrittenRecorded):
    """As `Written`, where the student was never played: there are no returns, and no verdict on them."""

    def __init__(self, result: Mapping[str, Any], settings: Mapping[str, Any], name: str = "") -> None:
        # None is written of the random policy, which did not play either.
        super().__init__({**result, "random": {}}, settings, name)

    @property
    def sampled(self) -> bool:
        """Whether actions are to be sampled, as the settings have it."""
        return bool(self.settings.get("sampled"))

    def claims(self) -> Iterator[Claim]:
        """Whether the verdict is the only one that there can be."""
        expected = {"non_inferior": False, "decision": "undecided", "episodes": 0, "reasons": [NEVER_PLAYED]}
        yield self.says(f"the verdict is open: {NEVER_PLAYED}", expected, self._verdict)


def recording_claims(written: Written, teacher: RecordedTeacher, student: Policy) -> Iterator[Claim]:
    """What can be looked at again of a recording: its returns, and the student on what was held out.

    Args:
        written: What is written.
        teacher: The recording.
        student: The student.
    """
    returns: Sequence[float] = teacher.recording.returns
    if returns:
        text = f"teacher: the recording has the {len(returns)} returns; nobody can play it again"
        yield written.says(text, {"returns": list(returns)}, written.teacher)
    held_out = measure_held_out(teacher, student, int(written.settings["seed"]))
    text = f"student: KL and agreement on {held_out.agreement.agreement_episodes} held-out episodes are the same"
    yield written.says(text, held_out.figures(), written.student)
