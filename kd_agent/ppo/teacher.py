"""A PPO teacher, trained once per environment, settings and seed, and kept."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from stable_baselines3.common.vec_env import VecEnv

from kd_agent.environments import Recipe, recipe_of, resolve_id, select
from kd_agent.environments.own_wrappers import TypedWrappers
from kd_agent.environments.teacher_view import view_of_teacher
from kd_agent.environments.vector import spaces_of
from kd_agent.errors import KDError
from kd_agent.networks import Teacher
from kd_agent.policies.safe_files import disk_errors_named
from kd_agent.ppo.spaces import check_trainable
from kd_agent.ppo.training import Keeper, Normalised, make_ppo, save, training_env
from kd_agent.runs import Reporter
from kd_agent.settings import DistillConfig, RunConfig, plain
from kd_agent.teachers import load_one

Watch = Callable[[Any, VecEnv, float], None]
"""Called with a model in training, the environment that it trains in, and the IQM of its evaluation."""


def trained_teacher(
    config: RunConfig, reporter: Reporter, root: Path = Path("runs/teachers"), watch: Watch | None = None
) -> Path:
    """The zip of a teacher for these settings: the one kept from an earlier run, or a new one.

    Args:
        config: Environment, seed and training settings.
        reporter: Shows the training.
        root: Where teachers are kept, `<env>-<key>/teacher.zip`.
        watch: Shown the model after each evaluation, its environment and the IQM.

    Raises:
        KDError: The settings do not fit the environment, or the folder cannot be written.
    """
    folder = root / f"{resolve_id(config.env).replace('/', '-')}-{_key(config)}"
    path = folder / "teacher.zip"
    if path.is_file():
        reporter.say(f"teacher: {path}, trained earlier")
        return path
    check_trainable(config.env, spaces_of(training_recipe(config)))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KDError(f"{folder}: cannot be written ({error.strerror})") from None
    with _alone_in(folder, reporter):
        if path.is_file():
            reporter.say(f"teacher: {path}, trained meanwhile")
            return path
        unfinished = path.with_name("unfinished.zip")
        train(config, unfinished, reporter, watch)
        # The zip last: it says that the training was finished.
        for suffix in (".npz", ".zip"):
            if unfinished.with_suffix(suffix).is_file():
                os.replace(unfinished.with_suffix(suffix), path.with_suffix(suffix))
    return path


@contextmanager
def _alone_in(folder: Path, reporter: Reporter) -> Iterator[None]:
    """Wait until no other process trains a teacher in a folder, and keep others out while the block runs."""
    lock = FileLock(folder / ".lock", thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        # The same settings give the same teacher: to wait for it is quicker than to train it again.
        reporter.say(f"teacher: another process is training it in {folder}; waiting")
        lock.acquire()
    except OSError as error:
        raise KDError(f"{folder}: cannot be locked ({error.strerror})") from None
    try:
        with disk_errors_named(folder):
            yield
    finally:
        lock.release()


def training_of_teacher(config: DistillConfig, spaces: Any) -> DistillConfig:
    """The settings under which a teacher is trained, there being none: in its own environment, where it has one.

    Args:
        config: The settings of the distillation.
        spaces: Observation and action space that the student plays in.

    Raises:
        KDError: What the teacher would learn to read is not what it will be shown; nothing has been trained yet.
    """
    keys = list(config.teacher_keys)
    if not config.teacher_env:
        if keys:
            raise KDError(
                f"teacher_keys {keys} need a teacher that reads them alone: "
                "name it (--teacher), or the environment to train it in (--teacher-env)"
            )
        # The teacher sees through its own wrappers from the beginning, and they are around all others.
        training = replace(config, wrapper=(*config.wrapper, *config.teacher_wrapper), teacher_wrapper=())
        check_trainable(config.env, spaces_of(training_recipe(training)))
        return training
    view, _ = view_of_teacher(spaces[0])
    shown = select(view, config.teacher_keys, "--teacher-keys"), spaces[1]
    # The arguments and the shared wrappers are of the environment that the student plays in.
    training = replace(
        config, env=config.teacher_env, env_kwargs={}, wrapper=config.teacher_wrapper, teacher_wrapper=()
    )
    learnt = spaces_of(training_recipe(training))
    which = ""
    if keys:
        which = f", of which the teacher sees {keys}"
    for what, here, there in zip(("observations", "actions"), shown, learnt, strict=True):
        if here != there:
            raise KDError(
                f"a teacher of {config.teacher_env} does not fit {config.env}{which}: "
                f"its {what} are {there}, not {here}"
            )
    check_trainable(config.teacher_env, learnt)
    return training


def train_named(
    config: DistillConfig, training: DistillConfig, spaces: Any, reporter: Reporter, watch: Watch | None = None
) -> Teacher:
    """A teacher trained now or earlier.

    Args:
        config: The settings of the distillation.
        training: Those of the teacher's training, from `training_of_teacher`.
        spaces: Observation and action space that the student plays in.
        reporter: Shows the training.
        watch: Shown the model after each evaluation, as in `trained_teacher`.
    """
    path = trained_teacher(training, reporter, watch=watch)
    return load_one(config, str(path), spaces)


def train(config: RunConfig, path: Path, reporter: Reporter, watch: Watch | None = None) -> None:
    """Train by PPO and keep the best of all evaluations.

    Args:
        config: Environment, seed and training settings.
        path: Where its zip goes; the statistics of its observations go beside it.
        reporter: Shows the training.
        watch: Shown the model after each evaluation, its environment and the IQM.
    """
    settings = config.training
    recipe = training_recipe(config)
    env = training_env(config, recipe)
    model = make_ppo(config, env, path.parent)

    def _show(score: float) -> None:
        if watch:
            watch(model, env, score)

    with reporter.stage("training the teacher", settings.total_steps, "steps") as advance:
        keeper = Keeper(
            settings,
            recipe,
            advance,
            player=lambda: Normalised(model, env),
            keep=lambda: save(model, env, path),
            watch=_show,
        )
        model.learn(settings.total_steps, callback=keeper, tb_log_name="ppo")
        # The last rollout has not been followed by another, which is when the callback looks.
        keeper.check()
    env.close()
    reporter.say(f"teacher: {path.with_name('teacher.zip')}, IQM {keeper.best:.1f} after {model.num_timesteps:,} steps")


def training_recipe(config: RunConfig) -> Recipe:
    """The environment that a teacher is trained in, inside the wrappers that were typed."""
    return TypedWrappers(config.wrapper).around(recipe_of(config.env, config.env_kwargs))


def _key(config: RunConfig) -> str:
    """What tells two trainings apart, in 12 hexadecimal digits."""
    relevant = {
        "env": resolve_id(config.env),
        "env_kwargs": config.env_kwargs,
        "seed": config.seed,
        "training": plain(config.training),
    }
    # Only where there are any, so that teachers of before are found again.
    if config.max_episode_steps:
        relevant["max_episode_steps"] = config.max_episode_steps
    if config.wrapper:
        relevant["wrapper"] = config.wrapper
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:12]
