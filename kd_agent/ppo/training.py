"""PPO as this package trains with it: its settings, its environments, and who keeps the best of what it becomes."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, VecNormalize

from kd_agent.environments import Recipe, recipe_of
from kd_agent.environments.vector import make_env
from kd_agent.errors import KDError
from kd_agent.evaluation import iqm
from kd_agent.networks import ACTIVATION_LAYERS
from kd_agent.policies import Array, Normalizer
from kd_agent.ppo.spaces import check_trainable
from kd_agent.rollouts import Predicts, episode_seeds, evaluate
from kd_agent.runs import Advance
from kd_agent.settings import RunConfig, TrainingConfig
from kd_agent.teachers import write_statistics

CHECK_SEED = 1_000_000
"""Seed of the first episode of each evaluation while training."""
_MINIBATCHES = 4
"""Of an update, where a short rollout leaves fewer states than the settings' minibatch."""
_HELD = 2
"""Evaluations in a row that reach the target, after which a training ends: one may be luck."""
_SHOWN_EVERY = 1_024
"""Environment steps between two reports."""


Score = Literal["iqm", "mean"]
"""What an evaluation is summed up by."""
_SCORES: dict[str, Callable[[Array], Any]] = {"iqm": iqm, "mean": np.mean}


class Keeper(BaseCallback):
    """Evaluates a model in training, keeps the best of all evaluations, and stops once the target return is held.

    Args:
        settings: How often it is evaluated, on how many episodes, and the target.
        recipe: Where the evaluations are played.
        advance: Shown the steps taken.
        player: The model as it is now, to be evaluated.
        keep: Called where that is the best so far.
        watch: Called after each evaluation with its score.
        score: What the best is best by.

    Attributes:
        best: The highest score so far.
        steps: Environment steps of the evaluations.
    """

    def __init__(
        self,
        settings: TrainingConfig,
        recipe: Recipe,
        advance: Advance,
        *,
        player: Callable[[], Predicts],
        keep: Callable[[], None],
        watch: Callable[[float], None] | None = None,
        score: Score = "iqm",
    ) -> None:
        super().__init__()
        self.best = -np.inf
        self.steps = 0
        self._settings = settings
        self._recipe = recipe
        self._advance = advance
        self._player = player
        self._keep = keep
        self._watch = watch
        self._score = score
        self._last = float("nan")
        self._held = 0
        self._checked = 0

    def _on_step(self) -> bool:
        # Steps come in as many at once as there are environments: the report is due in the step that passes it.
        if self.num_timesteps % _SHOWN_EVERY < self.training_env.num_envs:
            self.show()
        return self._held < _HELD

    def show(self, evaluating: int = 0) -> None:
        """Report the steps taken, the mean return, and how far an evaluation is."""
        figures: dict[str, float] = {}
        recent = recent_returns(self.model)
        if recent:
            figures["mean_return"] = float(np.mean(recent))
        if evaluating:
            figures["evaluating_episode"] = evaluating
        self._advance(self.num_timesteps, **figures, evaluated=self._last)

    def _on_rollout_start(self) -> None:
        # Between two rollouts: within one, the policy is the one of the evaluation before.
        if self.num_timesteps - self._checked >= self._settings.eval_every:
            self.check()

    def check(self) -> None:
        """Evaluate the present policy, unless that has been done, and keep it if it is the best."""
        if self._checked == self.num_timesteps:
            return
        self._checked = self.num_timesteps
        seeds = range(CHECK_SEED, CHECK_SEED + self._settings.eval_episodes)
        played = evaluate(self._player(), self._recipe, seeds=seeds, advance=lambda done, **_: self.show(done))
        self.steps += int(played.lengths.sum())
        score = float(_SCORES[self._score](played.returns))
        self._last = score
        self.logger.record(f"eval/{self._score}", score)
        if score > self.best:
            self.best = score
            self._keep()
        target = self._settings.target_return
        if target is not None and score >= target:
            self._held += 1
        else:
            self._held = 0
        if self._watch:
            self._watch(score)


def recent_returns(model: Any) -> list[float]:
    """Returns of the last episodes of a model's training, as SB3 gathers them; none before the first has ended."""
    return [episode["r"] for episode in model.ep_info_buffer or ()]


class Normalised:
    """A model that plays on raw observations.

    Args:
        model: SB3's.
        env: Where it is trained, which may normalise its observations.
    """

    def __init__(self, model: Any, env: VecEnv) -> None:
        self._model = model
        self._env = env

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Array, Any]:
        """As the model's, of observations as the environment gives them.

        Args:
            observation: As `Predicts` has it, and so for the others.
            state: The memory.
            episode_start: Whether each observation is the first of its episode.
            deterministic: Greedy actions rather than samples.
        """
        if isinstance(self._env, VecNormalize):
            # With the statistics as they are now; evaluating does not add to them.
            observation = self._env.normalize_obs(observation)
        actions, state = self._model.predict(observation, state, episode_start, deterministic)
        return actions, state


def training_env(config: RunConfig, env: str | Recipe) -> VecEnv:
    """Environments to train in, their episodes seeded; under running normalisation where the settings ask for it.

    Args:
        config: Seed and training settings.
        env: Gymnasium id, or a recipe.
    """
    settings = config.training
    recipe = recipe_of(env, config.env_kwargs).limited(config)
    venv = make_env(recipe, settings.n_envs)
    venv.set_attr("seeds", episode_seeds(config.seed))
    monitored = VecMonitor(venv)
    if settings.normalize:
        return VecNormalize(monitored, gamma=settings.gamma)
    return monitored


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
    check_trainable(config.env, (env.observation_space, env.action_space))
    settings = config.training
    critic = list(settings.hidden)
    policy = "MlpPolicy"
    if isinstance(env.observation_space, gym.spaces.Dict):
        policy = "MultiInputPolicy"
    arguments: dict[str, Any] = {
        "policy": policy,
        "learning_rate": _rate(settings),
        "n_steps": settings.n_steps,
        "batch_size": settings.batch_size,
        "n_epochs": settings.n_epochs,
        "gamma": settings.gamma,
        "gae_lambda": settings.gae_lambda,
        "clip_range": settings.clip_range,
        "ent_coef": settings.ent_coef,
        "use_sde": settings.use_sde,
        "policy_kwargs": {
            "net_arch": {"pi": critic if actor is None else list(actor), "vf": critic},
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


def _rate(settings: TrainingConfig) -> Any:
    """The learning rate as SB3 takes it: a number, or a function of the share of the training that is left."""
    if settings.linear_decay:
        return lambda left: settings.learning_rate * left
    return settings.learning_rate


def fitted_to(settings: TrainingConfig, steps: int, updates: int) -> TrainingConfig:
    """The settings for a small budget: rollouts short enough for at least so many updates, and whole ones.

    Args:
        settings: Those for the environment.
        steps: The budget in environment steps; it is rounded up.
        updates: How many updates there are at least.
    """
    n_steps = settings.n_steps
    while n_steps > 1 and n_steps * settings.n_envs * updates > steps:
        n_steps //= 2
    update = n_steps * settings.n_envs
    batch_size = min(settings.batch_size, max(update // _MINIBATCHES, 2))
    return replace(settings, total_steps=-(-steps // update) * update, n_steps=n_steps, batch_size=batch_size)


def save(model: Any, env: VecEnv, path: Path) -> None:
    """Write a model's zip at once, after the statistics beside it.

    Args:
        model: The model.
        env: Where it is trained, for the statistics of its observations.
        path: The zip.
    """
    temporary = path.with_name(f".{path.stem}.tmp.zip")
    if isinstance(env, VecNormalize):
        rms: Any = env.obs_rms
        write_statistics(path.with_suffix(".npz"), Normalizer(rms.mean, rms.var, env.clip_obs, env.epsilon))
    # Neither is needed to act or to be trained on, and a rollout's states are most of the file.
    model.save(temporary, exclude=["ep_info_buffer", "rollout_buffer"])
    os.replace(temporary, path)
