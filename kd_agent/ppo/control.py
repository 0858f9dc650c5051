"""The control: the student's own network, trained directly by PPO for as many environment steps.

What a small network reaches without a teacher is the yardstick for what the teacher gave it. The control
has PPO's settings for the environment, running normalisation included where they ask for it, and is
favoured in two ways: its critic has the teacher's size, and its rollouts are short enough for at least 32
updates.
"""

import time
from dataclasses import replace
from typing import Any

import gymnasium as gym
from stable_baselines3.common.callbacks import BaseCallback

from kd_agent.environments import Recipe, observation_specs
from kd_agent.environments.vector import spaces_of
from kd_agent.errors import KDError
from kd_agent.evaluation import EVALUATION_SEED, Arena, compare, scores
from kd_agent.ppo.teacher import fitted_to, make_ppo, save, training_env
from kd_agent.runs import Advance, Reporter, RunFolder
from kd_agent.settings import DistillConfig, TrainingConfig
from kd_agent.students import sees_images
from kd_agent.teachers import load_teacher

CONTROL_FILE = "control.zip"
_RECORD = "control.json"
_UPDATES = 32


def check_control(config: DistillConfig, observation_space: gym.Space[Any]) -> None:
    """Refuse a control that PPO cannot be.

    Raises:
        KDError: The student is no MLP, or does not see one array of numbers.
    """
    if not config.control:
        return
    kind = config.student or ("cnn" if sees_images(observation_specs(observation_space)) else "mlp")
    if kind != "mlp":
        raise KDError(f"--control trains mlp students, not {kind}; leave --control out, or ask for --student mlp")
    if not isinstance(observation_space, gym.spaces.Box) or config.student_keys:
        raise KDError(f"--control trains students that see a whole Box of numbers, not {observation_space}")


def add_control(
    config: DistillConfig, recipe: Recipe, folder: RunFolder, result: dict[str, Any], reporter: Reporter
) -> None:
    """Train the control unless the folder holds it, let it play the verdict's episodes, and write both into the result.

    Args:
        config: The run's settings, every default decided.
        recipe: The environment.
        folder: Keeps `control.zip`, the statistics beside it, and a record that it is finished.
        result: Content of `result.json` with its costs; it gains `control` and `cost.control_s`.
        reporter: Shows the training.
    """
    started = time.monotonic()
    path = folder.path / CONTROL_FILE
    steps = result["cost"]["env_steps"] + result["cost"]["exam_steps"]
    if not (folder.path / _RECORD).is_file():
        train_control(replace(config, training=control_training(config, steps)), recipe, folder, reporter)
    control = load_teacher(str(path), env=spaces_of(recipe))
    arena = Arena(recipe, first_seed=EVALUATION_SEED, reporter=reporter)
    returns = arena.play(control, "the control", result["verdict"]["episodes"])
    against = compare(returns, result["student"]["returns"], result["random"]["iqm"], margin=config.margin)
    seconds = round(time.monotonic() - started, 2)
    result["control"] = {
        "parameters": control.origin.num_parameters, **folder.read_json(_RECORD), **scores(returns),
        "difference": against.difference, "difference_ci": list(against.difference_ci),
        "better": against.difference_ci[0] > 0, "seconds": seconds,
    }  # fmt: skip
    result["cost"]["control_s"] = seconds
    reporter.say(sentence(result["control"]))


def control_training(config: DistillConfig, steps: int) -> TrainingConfig:
    """PPO's settings for a budget of `steps` environment steps, with the student's activation."""
    return replace(fitted_to(config.training, steps, _UPDATES), activation=config.activation)


def train_control(config: DistillConfig, recipe: Recipe, folder: RunFolder, reporter: Reporter) -> None:
    """Train by PPO for `config.training.total_steps` and keep the last weights."""
    total = config.training.total_steps
    env = training_env(config, recipe)
    model = make_ppo(config, env, folder.path, actor=config.hidden)
    with reporter.stage("training the control", total, "steps") as advance:
        model.learn(total, callback=_Progress(advance), tb_log_name="control")
    save(model, env, folder.path / CONTROL_FILE)
    folder.write_json(_RECORD, {"env_steps": model.num_timesteps})
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
        f"control: the same network after {control['env_steps']:,} steps of PPO reaches IQM {control['iqm']:.1f}; "
        f"the student is {control['difference']:+.1f} from it [{low:.1f}, {high:.1f}]"
    )
