"""PPO as this package trains with it: the best evaluation is kept, a held target ends it, a budget is whole updates."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ppo_teachers import TINY, train
from samples import PROBES
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecNormalize

from kd_agent import KDError
from kd_agent.environments import recipe_of
from kd_agent.ppo import training
from kd_agent.ppo.training import Keeper, Normalised, fitted_to, make_ppo, recent_returns, save, training_env
from kd_agent.rollouts.evaluate import Evaluation
from kd_agent.settings import RunConfig, TrainingConfig, resolve


def test_training_stops_once_the_target_is_held(tmp_path: Path) -> None:
    path = train(tmp_path, total_steps=100_000, target_return=-1.0)
    assert PPO.load(path).num_timesteps <= 64 * 3


def test_settings_that_ppo_refuses_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(KDError, match="PPO cannot be trained"):
        train(tmp_path, n_envs=1, n_steps=1, total_steps=2)


def config(**settings: Any) -> RunConfig:
    return resolve(RunConfig, {"env": PROBES["Discrete"], "training": {**TINY, **settings}})


class Trained:
    """A keeper of scripted evaluations, without a training."""

    def __init__(self, scores: list[float], monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        self.kept: list[float] = []
        self.seen: list[float] = []
        played = iter(scores)
        self.last = float("nan")

        def scripted(player: Any, recipe: Any, *, seeds: range, advance: Any) -> Evaluation:
            assert seeds == range(training.CHECK_SEED, training.CHECK_SEED + 2)
            self.last = next(played)
            return Evaluation(np.full(2, self.last), np.full(2, 7))

        monkeypatch.setattr(training, "evaluate", scripted)
        self.keeper = Keeper(
            config(**settings).training,
            recipe_of(PROBES["Discrete"]),
            lambda done, **figures: None,
            player=lambda: "player",  # type: ignore[arg-type, return-value]
            keep=lambda: self.kept.append(self.last),
            watch=self.seen.append,
        )
        self.keeper.model = SimpleNamespace(logger=SimpleNamespace(record=lambda *figure: None))

    def check(self, steps: int) -> bool:
        """Evaluate after so many steps; whether the training goes on."""
        self.keeper.num_timesteps = steps
        self.keeper.check()
        return self.keeper._held < training._HELD


@pytest.mark.parametrize(("score", "expected"), [("iqm", 10.0), ("mean", 5.0)])
def test_an_evaluation_is_summed_up_as_it_is_asked_for(
    score: Any, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mean knows of the one fall in four, which the interquartile mean leaves out."""
    played = Evaluation(np.array([-10.0, 10.0, 10.0, 10.0]), np.full(4, 7))
    monkeypatch.setattr(training, "evaluate", lambda *who, **how: played)
    recorded: dict[str, float] = {}
    keeper = Keeper(
        config().training,
        recipe_of(PROBES["Discrete"]),
        lambda done, **figures: None,
        player=lambda: "player",  # type: ignore[arg-type, return-value]
        keep=lambda: None,
        score=score,
    )
    logger = SimpleNamespace(record=lambda name, value: recorded.update({name: value}))
    keeper.model = SimpleNamespace(logger=logger, ep_info_buffer=[])  # type: ignore[assignment]
    keeper.num_timesteps = 64
    keeper.check()
    assert keeper.best == expected
    assert recorded == {f"eval/{score}": expected}


def test_what_is_better_than_all_before_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = Trained([1.0, 3.0, 2.0, 3.0, 4.0], monkeypatch)
    for steps in range(64, 64 * 6, 64):
        trained.check(steps)
    assert trained.kept == [1.0, 3.0, 4.0]
    assert trained.seen == [1.0, 3.0, 2.0, 3.0, 4.0]
    assert (trained.keeper.best, trained.keeper.steps) == (4.0, 5 * 2 * 7)


def test_a_policy_is_evaluated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = Trained([1.0], monkeypatch)
    trained.check(64)
    trained.check(64)
    assert trained.seen == [1.0]


def test_a_target_has_to_be_held_twice_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = Trained([5.0, 1.0, 5.0, 6.0], monkeypatch, target_return=5.0)
    assert [trained.check(steps) for steps in (64, 128, 192, 256)] == [True, True, True, False]


@pytest.mark.parametrize("steps", [100, 1_000, 50_000])
def test_a_small_budget_has_whole_updates_and_enough_of_them(steps: int) -> None:
    settings = TrainingConfig(n_envs=4, n_steps=1024, batch_size=256)
    found = fitted_to(settings, steps, 16)
    update = found.n_steps * found.n_envs
    assert found.total_steps % update == 0
    assert 0 <= found.total_steps - steps < update
    assert found.total_steps // update >= min(16, steps // settings.n_envs)
    assert 2 <= found.batch_size <= max(2, update)
    assert replace(found, total_steps=1, n_steps=1, batch_size=1) == replace(
        settings, total_steps=1, n_steps=1, batch_size=1
    )


def test_a_large_budget_leaves_the_rollouts_as_they_are() -> None:
    settings = TrainingConfig(n_envs=4, n_steps=64, batch_size=32)
    found = fitted_to(settings, 100_000, 16)
    assert (found.n_steps, found.batch_size, found.total_steps) == (64, 32, 100_096)


def test_the_rate_falls_where_that_is_asked_for(tmp_path: Path) -> None:
    env = training_env(config(), PROBES["Discrete"])
    falling = make_ppo(config(learning_rate=0.1, linear_decay=True), env, tmp_path)
    steady = make_ppo(config(learning_rate=0.1), env, tmp_path, actor=(3,), n_epochs=7)
    assert [falling.lr_schedule(left) for left in (1.0, 0.5, 0.0)] == pytest.approx([0.1, 0.05, 0.0])
    assert [steady.lr_schedule(left) for left in (1.0, 0.5, 0.0)] == pytest.approx([0.1] * 3)
    assert steady.policy.net_arch == {"pi": [3], "vf": [8]}
    assert steady.n_epochs == 7
    assert recent_returns(steady) == []
    env.close()


def test_a_model_under_normalisation_plays_on_raw_observations(tmp_path: Path) -> None:
    settings = config(normalize=True)
    env = training_env(settings, PROBES["Discrete"])
    assert isinstance(env, VecNormalize)
    env.obs_rms.mean[:] = 0.5
    before = env.obs_rms.mean.copy()
    model = make_ppo(settings, env, tmp_path)
    batch = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    actions, _ = Normalised(model, env).predict(batch, deterministic=True)
    expected, _ = model.predict(env.normalize_obs(batch), deterministic=True)
    np.testing.assert_array_equal(actions, expected)
    np.testing.assert_array_equal(env.obs_rms.mean, before)
    save(model, env, tmp_path / "m.zip")
    assert sorted(path.name for path in tmp_path.glob("m.*")) == ["m.npz", "m.zip"]
    assert not list(tmp_path.glob(".*"))
    env.close()
