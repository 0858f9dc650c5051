"""An RL Zoo folder is a teacher: everything about it is found by itself, and nothing in it runs."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import yaml
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from zoo_folders import ENV, agent, zoo

from kd_agent.environments.guarded import EPISODE, LAST_EPISODE
from kd_agent.environments.own_wrappers import TypedWrappers
from kd_agent.environments.recipe import ATARI, Recipe, recipe_of, resolve_id
from kd_agent.environments.vector import make_env, spaces_of, start
from kd_agent.errors import KDError
from kd_agent.rollouts.evaluate import evaluate
from kd_agent.teachers import _zoo, load_teacher, recipe_for
from kd_agent.teachers.zoo_folder import find_agent

SAMPLES = Path(__file__).parents[2].parent / "shared" / "teachers"


TIMED = "utils.wrappers.TimeFeatureWrapper"


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_the_runs_own_model_is_taken_and_the_best_one_where_there_is_no_other(tmp_path: Path) -> None:
    folder = zoo(tmp_path / "ppo" / f"{ENV}_1", {})
    agent(folder / "best_model.zip")
    assert find_agent(folder).name == "best_model.zip"
    agent(folder / f"{ENV}.zip")
    (folder / "train_eval_metrics.zip").write_bytes(b"PK")
    (folder / "rl_model_100_steps.zip").write_bytes(b"PK")
    assert find_agent(folder).name == f"{ENV}.zip"
    teacher = load_teacher(str(folder))
    assert teacher.origin.algo == "PPO"


def test_a_folder_without_one_agent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KDError, match=r"expected one agent's \.zip in this folder, found none"):
        load_teacher(str(tmp_path))
    for name in ("a", "b"):
        (tmp_path / f"{name}.zip").write_bytes(b"PK")
    with pytest.raises(KDError, match=r"found a\.zip, b\.zip"):
        load_teacher(str(tmp_path))


def test_settings_tell_environment_arguments_wrappers_and_frames(tmp_path: Path) -> None:
    config = {
        "env_wrapper": [{TIMED: {"max_steps": 200}}, "gym.wrappers.ClipAction"],
        "frame_stack": 3,
        "normalize": "{'norm_obs': False, 'norm_reward': True}",
        "env_kwargs": "dict(goal_velocity=0.1)",
    }
    folder = zoo(tmp_path, config, {"env_kwargs": {"render_mode": None}}, "MountainCarContinuous-v0")
    found = _zoo.read_settings(folder / "MountainCarContinuous-v0.zip")
    assert found.env == "MountainCarContinuous-v0"
    assert found.env_kwargs == {"goal_velocity": 0.1, "render_mode": None}
    assert found.wrappers == ((TIMED, {"max_steps": 200}), ("gym.wrappers.ClipAction", {}))
    assert found.frame_stack == 3
    assert not found.normalised
    recipe = _zoo.recipe(folder / "MountainCarContinuous-v0.zip", "", {"goal_velocity": 0.2})
    assert recipe.env_kwargs == {"goal_velocity": 0.2, "render_mode": None}
    assert spaces_of(recipe)[0].shape == (9,)
    assert Recipe.from_json(yaml.safe_load(yaml.safe_dump(_plain(recipe.to_json())))) == recipe


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        (True, True),
        (False, False),
        ("{'norm_obs': True}", True),
        ("dict(norm_obs=False, norm_reward=True)", False),
        ("dict(norm_reward=True)", True),
    ],
)
def test_normalisation_is_told_in_every_spelling(tmp_path: Path, text: Any, normalised: bool) -> None:
    zoo(tmp_path, {"normalize": text})
    assert _zoo.read_settings(tmp_path / f"{ENV}.zip").normalised == normalised


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch canary')",
        "dict(a=open('canary', 'w'))",
        "[x for x in (1,)]",
        "(" * 3000,
        "1" * 5000,
    ],
)
def test_text_is_never_evaluated(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    zoo(tmp_path, {"normalize": text})
    with pytest.raises(KDError, match="is not understood"):
        _zoo.read_settings(tmp_path / f"{ENV}.zip")
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"env_wrapper": "gym_minigrid.wrappers.FlatObsWrapper"},
            "'gym_minigrid.wrappers:FlatObsWrapper' is not known",
        ),
        ({"env_wrapper": "os.system"}, "'os:system' is not known"),
        ({"env_wrapper": "gym.wrappers.NormalizeObservation"}, "'gym.wrappers:NormalizeObservation' is not known"),
        ({"env_wrapper": "evil.wrappers.Monitor"}, "'evil.wrappers:Monitor' is not known"),
        ({"vec_env_wrapper": "my.VecThing"}, "'my:VecThing' is not known"),
        ({"env_wrapper": [3]}, "wrapper '3' is not understood"),
        ({"frame_stack": 10**9}, "frame_stack 1000000000"),
        ({"env_wrapper": {"gym.wrappers.FilterObservation": {"keys": 3}}}, "does not fit into gym.wrappers.FilterObs"),
    ],
)
def test_what_is_not_known_is_named(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    agent(zoo(tmp_path, config) / f"{ENV}.zip")
    with pytest.raises(KDError, match=message):
        recipe_for(str(tmp_path), ENV, {})


HARMLESS = (
    "stable_baselines3.common.monitor.Monitor",
    "gymnasium.wrappers.common.OrderEnforcing",
    "gymnasium.wrappers.PassiveEnvChecker",
    "gymnasium.wrappers.RecordEpisodeStatistics",
    "gym.wrappers.Monitor",
    "gym.wrappers.RecordVideo",
)


def test_wrappers_that_change_nothing_a_policy_sees_are_understood(tmp_path: Path) -> None:
    vector = ["stable_baselines3.common.vec_env.VecTransposeImage", "stable_baselines3.common.vec_env.VecMonitor"]
    config = {"env_wrapper": list(HARMLESS), "vec_env_wrapper": vector}
    agent(zoo(tmp_path, config) / f"{ENV}.zip")
    assert recipe_for(str(tmp_path), ENV, {}) == recipe_of(ENV)


STACKED = gym.wrappers.FrameStackObservation
TIME_AWARE = gym.wrappers.TimeAwareObservation


@pytest.mark.parametrize(
    ("named", "kwargs", "cls", "wanted"),
    [
        ("gymnasium.wrappers.FrameStackObservation", {"stack_size": 3}, STACKED, {"stack_size": 3}),
        ("gym.wrappers.FrameStack", {"num_stack": 3}, STACKED, {"stack_size": 3}),
        ("gymnasium.wrappers.TimeAwareObservation", {}, TIME_AWARE, {}),
        ("gymnasium.wrappers.TimeAwareObservation", {"flatten": True, "normalize_time": True}, TIME_AWARE, None),
        ("gymnasium.wrappers.TimeAwareObservation", {"flatten": False}, TIME_AWARE, None),
        ("gymnasium.wrappers.TimeLimit", {"max_episode_steps": 9}, gym.wrappers.TimeLimit, None),
    ],
)
def test_gymnasiums_own_wrappers_are_played_in(
    tmp_path: Path, named: str, kwargs: dict[str, Any], cls: Any, wanted: dict[str, Any] | None
) -> None:
    env = cls(gym.make(ENV), **(kwargs if wanted is None else wanted))
    policy = "MultiInputPolicy" if isinstance(env.observation_space, gym.spaces.Dict) else "MlpPolicy"
    zoo(tmp_path, {"env_wrapper": [{named: kwargs}]})
    model = PPO(policy, env, policy_kwargs={"net_arch": [4]}, seed=0, device="cpu")
    model.save(tmp_path / f"{ENV}.zip")
    recipe = recipe_for(str(tmp_path), ENV, {})
    assert spaces_of(recipe)[0] == env.observation_space
    teacher = load_teacher(str(tmp_path), env=spaces_of(recipe))
    # Against SB3 itself, episode by episode.
    wanted_returns = [evaluate_policy(model, seeded(env, seed), n_eval_episodes=1)[0] for seed in range(3)]
    assert evaluate(teacher, recipe, seeds=range(3)).returns.tolist() == wanted_returns


def seeded(env: Any, seed: int) -> Any:
    """An environment whose next episode has a seed."""
    venv = DummyVecEnv([lambda: Monitor(env)])
    venv.seed(seed)
    return venv


def test_wrappers_of_ones_own_in_the_settings_are_allowed_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"zoo_own_{tmp_path.name.replace('-', '_')}"
    code = "import gymnasium as gym\nopen('canary', 'w')\nclass Mine(gym.Wrapper):\n    pass\n"
    (tmp_path / f"{name}.py").write_text(code)
    agent(zoo(tmp_path / "zoo", {"env_wrapper": f"{name}.Mine"}) / f"{ENV}.zip")
    with pytest.raises(KDError, match=f"typed: --wrapper {name}:Mine"):
        recipe_for("zoo", ENV, {})
    assert not Path("canary").exists()
    recipe = recipe_for("zoo", ENV, {}, TypedWrappers((f"{name}:Mine",)))
    assert recipe.wrappers == ((f"{name}:Mine", {}),)
    assert Path("canary").exists()


def test_missing_statistics_are_an_error_for_every_algorithm(tmp_path: Path) -> None:
    agent(zoo(tmp_path, {"normalize": True}) / f"{ENV}.zip", algorithm=DQN, buffer_size=10)
    with pytest.raises(KDError, match="trained under VecNormalize, but its statistics are missing"):
        load_teacher(str(tmp_path))
    env = VecNormalize(DummyVecEnv([lambda: gym.make(ENV)]))
    env.reset()
    env.save(str(tmp_path / ENV / "vecnormalize.pkl"))
    normalise = load_teacher(str(tmp_path)).graph.ops[0]  # type: ignore[attr-defined]
    assert normalise.kind == "normalise"
    np.testing.assert_array_equal(normalise.tensors["mean"], np.float32(env.obs_rms.mean))


def test_statistics_of_another_shape_are_refused(tmp_path: Path) -> None:
    zoo(tmp_path, {"normalize": True})
    agent(tmp_path / f"{ENV}.zip")
    env = VecNormalize(DummyVecEnv([lambda: gym.make("Acrobot-v1")]))
    env.save(str(tmp_path / ENV / "vecnormalize.pkl"))
    with pytest.raises(KDError, match=r"statistics of shape \(6,\)"):
        load_teacher(str(tmp_path / f"{ENV}.zip"))
    # Those of nobody's folder may be another agent's: they are not taken, nor are they enough.
    (tmp_path / ENV / "vecnormalize.pkl").rename(tmp_path / "vecnormalize.pkl")
    with pytest.raises(KDError, match="its statistics are missing"):
        load_teacher(str(tmp_path / f"{ENV}.zip"))


def test_an_older_version_plays_on_the_newest_that_can_be_had_with_a_warning() -> None:
    pytest.importorskip("mujoco")
    for old, new in (
        ("LunarLander-v2", "LunarLander-v3"),
        ("HalfCheetah-v3", "HalfCheetah-v5"),
        ("Hopper-v3", "Hopper-v5"),
    ):
        with pytest.warns(UserWarning, match=f"playing on {new}"):
            assert resolve_id(old) == new
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert resolve_id("Hopper-v4") == "Hopper-v4"


def test_atari_is_played_from_four_grey_frames_with_whole_games_counted() -> None:
    pytest.importorskip("ale_py")
    recipe = recipe_of("PongNoFrameskip-v4", {"max_num_frames_per_episode": 400})
    assert recipe.wrappers == ((ATARI, {}),)
    assert spaces_of(recipe)[0] == gym.spaces.Box(0, 255, (84, 84, 4), np.uint8)
    assert recipe_of("ALE/Breakout-v5").env_kwargs == {"frameskip": 1}
    assert start(make_env(recipe, 1), iter([0]))["obs"].dtype == np.uint8
    assert (evaluate(None, recipe, seeds=[3, 4]).lengths > 300).all()


def test_a_lost_life_begins_memory_anew_and_ends_no_game() -> None:
    pytest.importorskip("ale_py")
    recipe = recipe_of("BreakoutNoFrameskip-v4", {"max_num_frames_per_episode": 2_000})
    env = make_env(recipe, 2)
    start(env, iter(range(9)))
    ends, games = 0, set()
    for _ in range(300):
        _, _, done, infos = env.step(np.array([env.action_space.sample() for _ in range(2)]))
        ends += int(done.sum())
        games |= {info[key][0] for info in infos for key in (EPISODE, LAST_EPISODE) if key in info}
    assert ends > 2 * len(games) > 0
    assert len(evaluate(None, recipe, seeds=range(2)).returns) == 2


def test_velocities_are_hidden_under_rl_zoos_names() -> None:
    env = gym.make(resolve_id("PendulumNoVel-v1"))
    observation, _ = env.reset(seed=0)
    assert observation[2] == 0
    assert env.step(env.action_space.sample())[0][2] == 0
    with pytest.warns(UserWarning, match="LunarLanderNoVel-v3"):
        resolve_id("LunarLanderNoVel-v2")


def test_a_history_shows_the_last_observations_and_actions() -> None:
    recipe = Recipe("Pendulum-v1", {}, (("rl_zoo3.wrappers.HistoryWrapper", {"horizon": 2}),))
    env = make_env(recipe, 1)
    first = start(env, iter([0]))["obs"][0]
    second = env.step(np.float32([[0.5]]))[0][0]
    third = env.step(np.float32([[-1.5]]))[0][0]
    np.testing.assert_array_equal(first[[0, 1, 2, 6, 7]], 0)
    np.testing.assert_array_equal(second[:3], first[3:6])
    np.testing.assert_array_equal(third[:3], second[3:6])
    np.testing.assert_allclose(third[6:], [0.5, -1.5])


def test_pixels_of_car_racing_are_prepared_as_rl_zoo_does(tmp_path: Path) -> None:
    config = {
        "env_wrapper": [
            {"rl_zoo3.wrappers.FrameSkip": {"skip": 2}},
            {"rl_zoo3.wrappers.YAMLCompatResizeObservation": {"shape": [64, 64]}},
            {"gymnasium.wrappers.transform_observation.GrayscaleObservation": {"keep_dim": True}},
        ],
        "frame_stack": 2,
    }
    zoo(tmp_path, config, env="CarRacing-v3")
    recipe = _zoo.recipe(tmp_path / "CarRacing-v3.zip", "", {})
    assert spaces_of(recipe)[0] == gym.spaces.Box(0, 255, (64, 64, 2), np.uint8)


EXPECTED = {
    "a2c-Pendulum-v1": -250, "ars-CartPole-v1": 490, "ddpg-Pendulum-v1": -250, "dqn-LunarLander-v2": 50,
    "ppo-Acrobot-v1": -110, "ppo-BipedalWalker-v3": 0, "ppo-CartPole-v1": 490, "ppo-HalfCheetah-v3": 3000,
    "ppo-LunarLander-v2": 150, "ppo-LunarLanderContinuous-v2": 200, "ppo-MountainCarContinuous-v0": 80,
    "qrdqn-CartPole-v1": 490, "sac-Hopper-v3": 800, "sac-MountainCarContinuous-v0": 85, "tqc-Pendulum-v1": -250,
    "trpo-MountainCar-v0": -135,
}  # fmt: skip
"""A mean return that each public teacher surpasses by far, and a misread one does not."""


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample of public teachers is not here")
def test_every_public_teacher_of_the_sample_is_expected() -> None:
    assert {path.name for path in SAMPLES.iterdir() if path.is_dir()} <= set(EXPECTED)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample of public teachers is not here")
@pytest.mark.parametrize("name", EXPECTED)
def test_a_public_teacher_loads_from_its_folder_and_plays_well(name: str, tmp_path: Path) -> None:
    if name.endswith(("HalfCheetah-v3", "Hopper-v3")):
        pytest.importorskip("mujoco")
    folder = tmp_path / name
    shutil.copytree(SAMPLES / name, folder)
    recipe = recipe_for(str(folder), "", {})
    teacher = load_teacher(str(folder), env=spaces_of(recipe))
    assert teacher.origin.algo.replace("-", "").lower() == name.partition("-")[0]
    assert evaluate(teacher, recipe, seeds=range(4)).returns.mean() > EXPECTED[name]
