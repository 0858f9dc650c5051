"""Distil, then reinforce: PPO goes on from the student, and what it becomes is kept where it is shown to be no worse.

`ppo.reinforcing` does what can be done against its collapse; what collapses all the same is not returned.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from kd_agent.distillation.outcome import Fitted
from kd_agent.errors import KDError
from kd_agent.evaluation import Episodes, PairedComparison, Verdict, scores, verdict_figures, verdict_looks
from kd_agent.evaluation.verdict import RANDOM_EPISODES
from kd_agent.networks import GraphStudent, Teacher
from kd_agent.policies import ObservationSpec, Policy, PolicyGraph
from kd_agent.policies import file as graph_file
from kd_agent.ppo.guided_training import Guided
from kd_agent.ppo.reinforcing import reinforce
from kd_agent.ppo.spaces import check_trainable
from kd_agent.runs import PPO_SELECTION_STEPS, Run, checkpoint_file, provenance
from kd_agent.settings import DistillConfig
from kd_agent.students import default_kind, sees_images

SELECTION_SEED = 40_000
"""Of the episodes that choose between the two students: neither PPO's, nor the validation's, nor the verdict's."""
CHECKPOINT = "reinforced"
"""The best student of a training that is finished."""
DISTILLED_FILE = "distilled.safetensors"
"""The student that PPO began with, where another is returned."""


def check_then_ppo(
    config: DistillConfig,
    spaces: tuple[gym.Space[Any], gym.Space[Any]],
    observed: Mapping[str, ObservationSpec],
    teacher: Teacher | None,
) -> None:
    """Refuse what PPO cannot go on with, before anything is distilled.

    Args:
        config: The settings.
        spaces: Observation and action space.
        observed: What the student sees of an observation, by key.
        teacher: The teacher; None where it is still to be trained.

    Raises:
        KDError: The message names what PPO cannot be trained with.
    """
    if not config.then_ppo:
        return
    if config.sampled:
        raise KDError("--then-ppo chooses among students by their greedy actions: leave out --sampled")
    kind = config.student or ("cnn" if sees_images(observed) else "mlp")
    if teacher and not config.student:
        kind = default_kind(teacher, observed)
    if kind != "mlp":
        raise KDError(f"--then-ppo trains mlp students, not a {kind}: leave it out, or ask for --student mlp")
    for name in ("student_keys", "teacher_keys", "teacher_wrapper", "teacher_env"):
        if getattr(config, name):
            flag = name.replace("_", "-")
            raise KDError(
                f"--then-ppo needs a teacher and a student that see all of one environment: leave out --{flag}"
            )
    if not isinstance(spaces[0], gym.spaces.Box) or len(spaces[0].shape) == 3:
        raise KDError(f"--then-ppo trains students that see a Box of numbers, not {spaces[0]}")
    check_trainable(config.env, spaces)
    if teacher and teacher.recurrent:
        raise KDError(f"{teacher.origin.source}: a teacher with a memory cannot guide PPO: leave out --then-ppo")
    if teacher and teacher.head.spec.expects_masks:
        raise KDError(f"{teacher.origin.source}: plays with action masks, and PPO has none: leave out --then-ppo")


def then_ppo(fitted: Fitted) -> Fitted:
    """Let PPO go on from a student where the settings ask for it; the better of the two.

    Args:
        fitted: What the distillation came to.

    Returns:
        The reinforced student where it is non-inferior to the distilled one and its mean is not lower; else the
        distilled one. `figures` gains `then_ppo`.
    """
    run = fitted.run
    if not run.config.then_ppo:
        return fitted
    distilled = fitted.student.graph()
    with run.costs.timed("ppo_s"):
        guided = _finished(run, distilled) or _trained(run, distilled, run.config.then_ppo)
        choice = choose(run, distilled, guided.program)
    run.reporter.say(choice.sentence())
    figures = {
        "steps": guided.steps,
        "evaluations": [{"steps": steps, "mean": mean} for steps, mean in guided.evaluations],
        **choice.figures(),
    }
    fitted = replace(fitted, figures={**fitted.figures, "then_ppo": figures})
    if not choice.better:
        return fitted
    graph_file.write(replace(distilled, provenance=provenance(run)), run.folder.path / DISTILLED_FILE)
    # In margins, as the score of the validation that it is added to.
    gain = choice.verdict.difference / max(choice.verdict.margin, 1e-8)
    return replace(fitted, student=GraphStudent(guided.program), score=fitted.score + gain, verdict=None)


def say_overtook(result: dict[str, Any]) -> None:
    """Write into a result whether the student is shown to be better than its teacher.

    Args:
        result: Content of `result.json`; its `then_ppo`, where it has one, gains `overtook`.
    """
    if "then_ppo" in result:
        result["then_ppo"]["overtook"] = result["verdict"]["difference_ci"][0] > 0


@dataclass(frozen=True)
class Choice:
    """The two students in the same episodes.

    Attributes:
        verdict: On the reinforced one, the distilled one in the teacher's place.
        distilled: Returns of that.
        reinforced: Of the other.
    """

    verdict: Verdict
    distilled: list[float]
    reinforced: list[float]

    @property
    def better(self) -> bool:
        """Whether the reinforced one is kept."""
        return self.verdict.non_inferior and self.verdict.difference >= 0

    @property
    def kept(self) -> str:
        """Which is kept."""
        return "reinforced" if self.better else "distilled"

    def figures(self) -> dict[str, Any]:
        """As `result.json` has it."""
        return {
            "kept": self.kept,
            "comparison": verdict_figures(self.verdict),
            "distilled": scores(self.distilled),
            "reinforced": scores(self.reinforced),
        }

    def sentence(self) -> str:
        """In one line."""
        low, high = self.verdict.difference_ci
        why = "" if self.better else ", since the reinforced one is not shown to be as good"
        return (
            f"then PPO: the {self.kept} student is kept{why}: reinforced {np.mean(self.reinforced):.1f}, distilled "
            f"{np.mean(self.distilled):.1f}, difference {self.verdict.difference:+.1f} [{low:.1f}, {high:.1f}]; "
            f"{self.verdict.decision} after {self.verdict.episodes} episodes"
        )


def choose(run: Run, distilled: PolicyGraph, reinforced: PolicyGraph) -> Choice:
    """Let both students play the same episodes until it is decided whether one is as good as the other.

    Args:
        run: The run.
        distilled: The student that PPO began with.
        reinforced: The one that it came to.
    """
    episodes = Episodes.of(run, first_seed=SELECTION_SEED, stage="then PPO:", purpose=PPO_SELECTION_STEPS)
    random_episodes = min(RANDOM_EPISODES, run.config.max_episodes)
    comparison = PairedComparison(
        episodes, Policy(distilled), margin=run.config.margin, random_episodes=random_episodes
    )
    looks = verdict_looks(run)
    returns, verdict = comparison.play_until_decided(Policy(reinforced), "the reinforced student", looks)
    return Choice(verdict, comparison.teacher_returns(len(returns)), returns)


def _trained(run: Run, distilled: PolicyGraph, steps: int) -> Guided:
    """Train by PPO, and keep the best in the run folder."""
    if run.config.resume:
        run.reporter.say("then PPO: begins at its beginning; the distillation before it is kept")
    guided = reinforce(run, distilled, steps)
    evaluations = np.array(guided.evaluations, np.float64)
    weights = GraphStudent(guided.program).arrays()
    run.folder.save_arrays(CHECKPOINT, {"evaluations": evaluations, **weights, **run.costs.arrays()})
    return guided


def _finished(run: Run, distilled: PolicyGraph) -> Guided | None:
    """What a training that was finished earlier came to; None where there was none."""
    arrays = run.folder.load_arrays(CHECKPOINT)
    if arrays is None:
        return None
    student = GraphStudent(distilled)
    with run.folder.reading(checkpoint_file(CHECKPOINT)):
        run.costs.restore(arrays)
        evaluations = [(int(steps), float(mean)) for steps, mean in arrays.pop("evaluations")]
        student.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return Guided(student.graph(), evaluations, weight=0.0)
