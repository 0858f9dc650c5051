"""The control: the student's own network, trained directly by PPO for as many environment steps.

What a small network reaches without a teacher is the yardstick for what the teacher gave it. The control
has PPO's settings for the environment, running normalisation included where they ask for it, and is
favoured in two ways: its critic has the teacher's size, and its rollouts are short enough for at least 32
updates.
"""

from dataclasses import replace
from typing import Any

import gymnasium as gym
from stable_baselines3.common.callbacks import BaseCallback

from kd_agent.environments import observation_specs
from kd_agent.environments.vector import spaces_of
from kd_agent.errors import KDError
from kd_agent.evaluation import EVALUATION_SEED, Episodes, compare, scores
from kd_agent.ppo.training import fitted_to, make_ppo, save, training_env
from kd_agent.runs import PPO_SELECTION_STEPS, PPO_STEPS, Advance, Run
from kd_agent.settings import Activation, DistillConfig, TrainingConfig
from kd_agent.students import sees_images
from kd_agent.teachers import load_teacher

CONTROL_FILE = "control.zip"
_RECORD = "control.json"
_UPDATES = 32
"""Updates that a control has at least: with a rollout as long as the whole budget it would have one."""


def check_control(config: DistillConfig, observation_space: gym.Space[Any]) -> None:
    """Refuse a control that PPO cannot be.

    Args:
        config: The settings.
        observation_space: What the environment shows.

    Raises:
        KDError: The student is no MLP, or does not see one array of numbers.
    """
    if not config.control:
        return
    by_default = "mlp"
    if sees_images(observation_specs(observation_space)):
        by_default = "cnn"
    kind = config.student or by_default
    if kind != "mlp":
        raise KDError(f"--control trains mlp students, not {kind}; leave --control out, or ask for --student mlp")
    if not isinstance(observation_space, gym.spaces.Box) or config.student_keys:
        raise KDError(f"--control trains students that see a whole Box of numbers, not {observation_space}")


def add_control(run: Run, result: dict[str, Any]) -> None:
    """Train the control unless the folder holds it, let it play the verdict's episodes, and write both into the result.

    The run folder keeps `control.zip`, the statistics beside it, and a record that it is finished.

    Args:
        run: The run, the student's final size in its plan.
        result: Content of `result.json`; it gains `control`.
    """
    with run.costs.timed("control_s"):
        # The record, not the zip: it is written last, and says that the training was finished.
        if not run.folder.holds_file(_RECORD):
            train_control(run)
        control = load_teacher(str(run.folder.path / CONTROL_FILE), env=spaces_of(run.recipe))
        episodes = Episodes.of(run, first_seed=EVALUATION_SEED)
        returns = episodes.play(control, "the control", result["verdict"]["episodes"])
    student = result["student"]["returns"]
    against = compare(returns, student, result["random"]["returns"], margin=run.config.margin)
    result["control"] = {
        "parameters": control.origin.num_parameters,
        **run.folder.read_json(_RECORD),
        **scores(returns),
        "difference": against.difference,
        "difference_ci": list(against.difference_ci),
        "better": against.difference_ci[0] > 0,
        "seconds": round(run.costs.seconds["control_s"], 2),
    }
    run.reporter.say(sentence(result["control"]))


def control_training(training: TrainingConfig, steps: int, activation: Activation) -> TrainingConfig:
    """PPO's settings for a control.

    Args:
        training: Those for the environment.
        steps: Its budget in environment steps.
        activation: The student's.
    """
    return replace(fitted_to(training, steps, _UPDATES), activation=activation)


def train_control(run: Run) -> None:
    """Train the plan's network by PPO for as many steps as the student had, and keep the last weights."""
    # All that the student has cost counts for the control: its states, and the episodes that chose the best of it.
    paid = ("collect_steps", "validation_steps", PPO_STEPS, PPO_SELECTION_STEPS)
    steps = sum(map(run.costs.of, paid))
    training = control_training(run.config.training, steps, run.plan.activation)
    config = replace(run.config, training=training)
    env = training_env(config, run.recipe)
    model = make_ppo(config, env, run.folder.path, actor=run.plan.hidden)
    with run.reporter.stage("training the control", training.total_steps, "steps") as advance:
        model.learn(training.total_steps, callback=_Progress(advance), tb_log_name="control")
    save(model, env, run.folder.path / CONTROL_FILE)
    # The last weights are kept: to choose the best of several, evaluations would cost steps beyond the budget.
    run.folder.write_json(_RECORD, {"env_steps": model.num_timesteps})
    env.close()


class _Progress(BaseCallback):
    """Shows how far a training is."""

    def __init__(self, advance: Advance) -> None:
        super().__init__()
        self._advance = advance

    def _on_step(self) -> bool:
        self._advance(self.num_timesteps)
        return True


def sentence(control: dict[str, Any]) -> str:
    """How the student compares, in one line."""
    low, high = control["difference_ci"]
    return (
        f"control: the same network after {control['env_steps']:,} steps of PPO has a mean of {control['mean']:.1f}; "
        f"the student is {control['difference']:+.1f} from it [{low:.1f}, {high:.1f}]"
    )
