"""Which statistics an agent gets."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from samples import SPACES
from small_agents import BOX, REPLAY, STEPS, VECTOR, VECTORS, Fake
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.callbacks import CheckpointCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from kd_agent import load_teacher
from kd_agent.errors import KDError
from kd_agent.networks.base import Teacher
from kd_agent.policies import Normalizer
from kd_agent.teachers._request import Request
from kd_agent.teachers._statistics import write_statistics
from kd_agent.teachers._statistics_search import Doubt, Evidence, find_statistics

FAR = gym.spaces.Box(0, 1000, (4,), np.float32)
SHAPES = {"obs": (4,)}


def write(path: Path, mean: float = 1.0, size: int = 4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_statistics(path, Normalizer(np.full(size, mean), np.ones(size)))
    return path.rename(path) if path.suffix == ".npz" else Path(f"{path}.npz").rename(path)


def found(agent: Path, normalised: bool | None = None, **request: Any) -> Mapping[str, Normalizer] | None:
    return find_statistics(Evidence(agent, normalised, SHAPES), Request(**request))


@pytest.mark.parametrize(
    ("agent", "statistics"),
    [
        ("a.zip", "a.npz"),
        ("rl_model_600_steps.zip", "rl_model_vecnormalize_600_steps.pkl"),
        ("mine_600_steps.zip", "mine_vecnormalize_600_steps.pkl"),
        ("Env-v0.zip", "Env-v0/vecnormalize.pkl"),
        ("a.zip", "vecnormalize.pkl"),
        ("a.zip", "vec_normalize.pkl"),
        ("a.zip", "a_vecnormalize.pkl"),
        ("a.zip", "vec_normalize_a.pkl"),
        ("ppo_agent.zip", "CartPole-v1.pkl"),
        ("a.zip", "whatever.npz"),
        ("models/a.zip", "vecnormalize.pkl"),
        ("models/a.zip", "env_stats.pkl"),
    ],
)
def test_statistics_are_found_under_the_names_that_people_use_and_named(
    tmp_path: Path, agent: str, statistics: str
) -> None:
    path = write(tmp_path / statistics)
    (tmp_path / agent).parent.mkdir(exist_ok=True)
    with pytest.warns(UserWarning, match="for its VecNormalize statistics") as caught:
        assert found(tmp_path / agent) is not None
    assert str(path) in str(caught[0].message)


def test_nothing_is_taken_from_above_that_is_not_called_so_and_nothing_of_another_shape(tmp_path: Path) -> None:
    write(tmp_path / "results.npz")
    write(tmp_path / "models" / "other.npz", size=3)
    (tmp_path / "models" / "replay.pkl").write_bytes(b"\x80\x04N.")
    assert found(tmp_path / "models" / "a.zip") is None
    with pytest.raises(KDError, match="trained under VecNormalize, but its statistics are missing"):
        found(tmp_path / "models" / "a.zip", normalised=True)
    assert found(tmp_path / "models" / "a.zip", normalised=True, allow_missing_statistics=True) is None


def test_several_that_fit_are_listed_and_equal_ones_are_one(tmp_path: Path) -> None:
    one, other = write(tmp_path / "x_norm.npz"), write(tmp_path / "y_norm.npz", mean=2.0)
    with pytest.raises(KDError, match="several files of statistics fit") as caught:
        found(tmp_path / "a.zip")
    assert str(one) in str(caught.value)
    assert str(other) in str(caught.value)
    assert "--statistics FILE" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert found(tmp_path / "a.zip", statistics=str(other))["obs"].mean[0] == 2.0  # type: ignore[index]
    write(tmp_path / "y_norm.npz")
    with pytest.warns(UserWarning, match="x_norm"):
        assert found(tmp_path / "a.zip") is not None


def test_a_file_that_bears_another_agents_name_is_that_agents(tmp_path: Path) -> None:
    write(tmp_path / "b_vecnormalize.pkl")
    (tmp_path / "b.zip").touch()
    assert found(tmp_path / "a.zip") is None
    with pytest.warns(UserWarning, match="b_vecnormalize"):
        assert found(tmp_path / "b.zip") is not None


def test_an_agent_that_was_trained_without_gets_none_and_the_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "vecnormalize.npz")
    with pytest.warns(UserWarning, match="belongs to another agent and is not applied") as caught:
        assert found(tmp_path / "a.zip", normalised=False) is None
    assert str(path) in str(caught[0].message)
    assert found(tmp_path / "a.zip", normalised=False, statistics=str(path)) is not None


def test_what_is_known_to_be_needed_is_taken_from_its_own_place_without_a_word(tmp_path: Path) -> None:
    write(tmp_path / "Env-v0" / "vecnormalize.npz")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert found(tmp_path / "Env-v0.zip", normalised=True) is not None


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"obs": (3,)}, r"statistics of shape \(4,\) for 'obs' of \(3,\)"),
        ({"arm": (4,)}, r"of \['obs'\], .* \['arm'\]"),
    ],
)
def test_named_statistics_that_do_not_fit_are_refused(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]], message: str
) -> None:
    path = write(tmp_path / "s.npz")
    with pytest.raises(KDError, match=message) as caught:
        find_statistics(Evidence(tmp_path / "a.zip", None, shapes), Request(statistics=str(path)))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_doubt_is_said_once_and_of_far_floats_alone() -> None:
    doubt = Doubt("sac.zip")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        doubt.look({"obs": np.full((2, 3), 99.0), "image": np.full((2, 3), 255, np.uint8), "no": np.zeros((0, 2))})
    with pytest.warns(UserWarning, match=r"sac\.zip: does not say whether .*'obs' reaches 2e\+03") as caught:
        doubt.look({"obs": np.full((2, 3), -2000.0)})
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        doubt.look({"obs": np.full((2, 3), -2000.0)})


def answers(teacher: Teacher, observations: np.ndarray) -> np.ndarray:
    return teacher.predict(observations, deterministic=True)[0]


def test_a_checkpoint_of_an_off_policy_agent_acts_under_its_own_statistics(tmp_path: Path) -> None:
    env = VecNormalize(DummyVecEnv([lambda: Fake(FAR, BOX)]), clip_obs=np.inf)
    model = SAC("MlpPolicy", env, seed=0, policy_kwargs={"net_arch": [8]}, device="cpu", **REPLAY)
    model.learn(40, callback=CheckpointCallback(20, str(tmp_path), save_vecnormalize=True))
    agent = tmp_path / "rl_model_40_steps.zip"
    with pytest.warns(UserWarning, match="rl_model_vecnormalize_40_steps"):
        teacher = load_teacher(str(agent), env=(FAR, BOX))
    observations = np.random.default_rng(0).uniform(0, 1000, (50, 4)).astype(np.float32)
    own = SAC.load(agent, device="cpu").predict(env.normalize_obs(observations), deterministic=True)[0]
    np.testing.assert_allclose(answers(teacher, observations), own, atol=1e-4)
    # Alone, it says nothing: whoever shows it raw observations hears of it.
    (tmp_path / "alone" / "within").mkdir(parents=True)
    alone = agent.rename(tmp_path / "alone" / "within" / "sac.zip")
    with pytest.warns(UserWarning, match="without them it may act at random"):
        answers(load_teacher(str(alone), env=(FAR, BOX)), observations)


def test_an_on_policy_agent_that_was_not_normalised_keeps_its_raw_observations(tmp_path: Path) -> None:
    model = PPO("MlpPolicy", Fake(VECTOR, SPACES["Discrete"]), seed=0, device="cpu", **STEPS)
    model.learn(16)
    model.save(tmp_path / "a.zip")
    write(tmp_path / "vecnormalize.npz", mean=50.0)
    with pytest.warns(UserWarning, match="not applied"):
        teacher = load_teacher(str(tmp_path / "a.zip"))
    wanted = model.predict(VECTORS["obs"], deterministic=True)[0]
    np.testing.assert_array_equal(answers(teacher, VECTORS["obs"]), wanted)
