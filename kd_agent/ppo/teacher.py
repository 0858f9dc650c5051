"""A PPO teacher, trained once per environment, settings and seed, and kept."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, VecNormalize

from kd_agent.environments import Recipe, recipe_of, resolve_id, select
from kd_agent.environments.vector import make_env, spaces_of
from kd_agent.errors import KDError
from kd_agent.evaluation import iqm
from kd_agent.networks import ACTIVATION_LAYERS, Teacher
from kd_agent.policies import Array, Normalizer
from kd_agent.rollouts import Predicts, episode_seeds, evaluate
from kd_agent.runs import Advance, Reporter
from kd_agent.settings import DistillConfig, RunConfig, TrainingConfig, plain
from kd_agent.teachers import load_one, write_statistics

CHECK_SEED = 1_000_000
"""Seed of the first episode of each evaluation while training."""
_MINIBATCHES = 4

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
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KDError(f"{folder}: cannot be written ({error.strerror})") from None
    unfinished = path.with_name("unfinished.zip")
    train(config, unfinished, reporter, watch)
    for suffix in (".npz", ".zip"):  # the zip last: it says that the training was finished
        if unfinished.with_suffix(suffix).is_file():
            os.replace(unfinished.with_suffix(suffix), path.with_suffix(suffix))
    return path


def training_of_teacher(config: DistillConfig, spaces: Any) -> DistillConfig:
    """The settings under which a teacher is trained, there being none: in its own environment, where it has one.

    Args:
        config: The settings of the distillation.
        spaces: Observation and action space that the student plays in.

    Raises:
        KDError: What the teacher would learn to read is not what it will be shown; nothing has been trained yet.
    """
    if not config.teacher_env:
        if config.teacher_keys:
            raise KDError(f"teacher_keys {list(config.teacher_keys)} need a teacher that reads them alone: "
                          f"name it (--teacher), or the environment to train it in (--teacher-env)")  # fmt: skip
        return config
    shown = select(spaces[0], config.teacher_keys, "--teacher-keys"), spaces[1]
    learnt = spaces_of(config.teacher_env)
    for what, here, there in zip(("observations", "actions"), shown, learnt, strict=True):
        if here != there:
            keys = f", of which the teacher sees {list(config.teacher_keys)}" if config.teacher_keys else ""
            raise KDError(f"a teacher of {config.teacher_env} does not fit {config.env}{keys}: "
                          f"its {what} are {there}, not {here}")  # fmt: skip
    return replace(config, env=config.teacher_env, env_kwargs={})


def train_named(
    config: DistillConfig, school: DistillConfig, spaces: Any, reporter: Reporter, watch: Watch | None = None
) -> Teacher:
    """A teacher trained now or earlier.

    Args:
        config: The settings of the distillation.
        school: Those of the training, from `training_of_teacher`.
        spaces: Observation and action space that the student plays in.
        reporter: Shows the training.
        watch: Shown the model after each evaluation, as in `trained_teacher`.
    """
    path = trained_teacher(school, reporter, watch=watch)
    return load_one(config, str(path), spaces)


def train(config: RunConfig, path: Path, reporter: Reporter, watch: Watch | None = None) -> None:
    """Train by PPO and keep the best of all evaluations at `path` (and its statistics beside it)."""
    settings = config.training
    env = training_env(config, config.env)
    model = make_ppo(config, env, path.parent)
    with reporter.stage("training the teacher", settings.total_steps, "steps") as advance:
        keeper = Keeper(
            settings, recipe_of(config.env, config.env_kwargs), advance, player=lambda: _Normalised(model, env),
            keep=lambda: save(model, env, path), watch=(lambda score: watch(model, env, score)) if watch else None,
        )  # fmt: skip
        model.learn(settings.total_steps, callback=keeper, tb_log_name="ppo")
        keeper.check()
    env.close()
    reporter.say(f"teacher: {path.with_name('teacher.zip')}, IQM {keeper.best:.1f} after {model.num_timesteps:,} steps")


class Keeper(BaseCallback):
    """Evaluates a model in training, keeps the best of all evaluations, and stops once the target return is held.

    Args:
        settings: How often it is evaluated, on how many episodes, and the target.
        recipe: Where the evaluations are played.
        advance: Shown the steps taken.
        player: The model as it is now, to be evaluated.
        keep: Called where that is the best so far.
        watch: Called after each evaluation with its IQM.

    Attributes:
        best: The highest IQM so far.
        steps: Environment steps of the evaluations.
    """

    def __init__(
        self, settings: TrainingConfig, recipe: Recipe, advance: Advance, *,
        player: Callable[[], Predicts], keep: Callable[[], None], watch: Callable[[float], None] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.settings, self.recipe, self.advance = settings, recipe, advance
        self.player, self.keep, self.watch = player, keep, watch
        self.best, self.last, self.held, self.checked, self.steps = -np.inf, float("nan"), 0, 0, 0

    def _on_step(self) -> bool:
        if self.num_timesteps % 1024 < self.training_env.num_envs:
            self.show()
        return self.held < 2

    def show(self, evaluating: int = 0) -> None:
        """Report the steps taken, the mean return, and how far an evaluation is."""
        recent = [episode["r"] for episode in self.model.ep_info_buffer or ()]
        figures = {"mean_return": float(np.mean(recent))} if recent else {}
        if evaluating:
            figures["evaluating_episode"] = evaluating
        self.advance(self.num_timesteps, **figures, evaluated=self.last)

    def _on_rollout_start(self) -> None:
        if self.num_timesteps - self.checked >= self.settings.eval_every:
            self.check()

    def check(self) -> None:
        """Evaluate the present policy, unless that has been done, and keep it if it is the best."""
        if self.checked == self.num_timesteps:
            return
        self.checked = self.num_timesteps
        seeds = range(CHECK_SEED, CHECK_SEED + self.settings.eval_episodes)
        played = evaluate(self.player(), self.recipe, seeds=seeds, advance=lambda done, **_: self.show(done))
        self.steps += int(played.lengths.sum())
        self.last = float(iqm(played.returns))
        self.logger.record("eval/iqm", self.last)
        if self.last > self.best:
            self.best = self.last
            self.keep()
        reached = self.settings.target_return is not None and self.last >= self.settings.target_return
        self.held = self.held + 1 if reached else 0
        if self.watch:
            self.watch(self.last)


class _Normalised:
    """A model that plays on raw observations."""

    def __init__(self, model: Any, env: VecEnv) -> None:
        self._model = model
        self._normalise: Callable[[Array], Any] = env.normalize_obs if isinstance(env, VecNormalize) else lambda x: x

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Array, Any]:
        actions, state = self._model.predict(self._normalise(observation), state, episode_start, deterministic)
        return actions, state


def training_env(config: RunConfig, env: str | Recipe) -> VecEnv:
    """Environments to train in, their episodes seeded; under running normalisation where the settings ask for it."""
    settings = config.training
    venv = make_env(env, settings.n_envs, config.env_kwargs)
    venv.set_attr("seeds", episode_seeds(config.seed))
    monitored = VecMonitor(venv)
    return VecNormalize(monitored, gamma=settings.gamma) if settings.normalize else monitored


def make_ppo(config: RunConfig, env: VecEnv, folder: Path, *, actor: Sequence[int] | None = None, **more: Any) -> PPO:
    """An untrained PPO.

    Args:
        config: Seed, device and training settings.
        env: Where it is to be trained.
        folder: Where TensorBoard's events go.
        actor: The actor's hidden layers, where they are not the critic's.
        more: Arguments of PPO that win over the settings.

    Raises:
        KDError: PPO refuses the settings or the environment.
    """
    settings = config.training
    rate = settings.learning_rate
    layers = list(settings.hidden)
    arguments: dict[str, Any] = {
        "policy": "MultiInputPolicy" if hasattr(env.observation_space, "spaces") else "MlpPolicy",
        "learning_rate": (lambda left: rate * left) if settings.linear_decay else rate,
        "n_steps": settings.n_steps,
        "batch_size": settings.batch_size,
        "n_epochs": settings.n_epochs,
        "gamma": settings.gamma,
        "gae_lambda": settings.gae_lambda,
        "clip_range": settings.clip_range,
        "ent_coef": settings.ent_coef,
        "use_sde": settings.use_sde,
        "policy_kwargs": {
            "net_arch": {"pi": layers if actor is None else list(actor), "vf": layers},
            "activation_fn": ACTIVATION_LAYERS[settings.activation],
            "log_std_init": settings.log_std_init,
        },
    }
    try:
        return PPO(
            env=env, tensorboard_log=str(folder), seed=config.seed, device=config.device, **{**arguments, **more}
        )
    except (AssertionError, ValueError) as error:
        raise KDError(f"PPO cannot be trained on {config.env}: {' '.join(str(error).split())[:200]}") from None


def fitted_to(settings: TrainingConfig, steps: int, updates: int) -> TrainingConfig:
    """The settings for a budget of `steps` environment steps: at least so many updates, whole ones, rounded up."""
    n_steps = settings.n_steps
    while n_steps > 1 and n_steps * settings.n_envs * updates > steps:
        n_steps //= 2
    update = n_steps * settings.n_envs
    batch_size = min(settings.batch_size, max(update // _MINIBATCHES, 2))
    return replace(settings, total_steps=-(-steps // update) * update, n_steps=n_steps, batch_size=batch_size)


def save(model: Any, env: VecEnv, path: Path) -> None:
    """Write a model's zip at once, after the statistics beside it."""
    temporary = path.with_name(f".{path.stem}.tmp.zip")
    if isinstance(env, VecNormalize):
        rms: Any = env.obs_rms
        write_statistics(path.with_suffix(".npz"), Normalizer(rms.mean, rms.var, env.clip_obs, env.epsilon))
    model.save(temporary, exclude=["ep_info_buffer", "rollout_buffer"])
    os.replace(temporary, path)


def _key(config: RunConfig) -> str:
    relevant = {"env": resolve_id(config.env), "env_kwargs": config.env_kwargs, "seed": config.seed,
                "training": plain(config.training)}  # fmt: skip
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:12]
