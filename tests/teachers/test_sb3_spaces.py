"""Every space that Stable-Baselines3 serves is acted in as it acts, with the environment and from the zip alone."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from samples import Agent, settings
from small_agents import Fake
from stable_baselines3 import DQN, PPO, SAC

from kd_agent import KDError, distill, export, load_policy
from kd_agent.teachers import GraphTeacher, load_teacher

VECTOR = spaces.Box(-1, 1, (4,), np.float32)
OBSERVATIONS: dict[str, gym.Space[Any]] = {
    "Discrete": spaces.Discrete(3),
    "MultiDiscrete": spaces.MultiDiscrete([3, 2]),
    "MultiBinary": spaces.MultiBinary(3),
    "MultiBinary of two axes": spaces.MultiBinary((2, 3)),
    **{f"Box of {kind}": spaces.Box(0, 1, (3,), kind) for kind in (np.bool_, np.int8, np.int16, np.int64, np.uint16)},
    "bytes": spaces.Box(0, 255, (3,), np.uint8),
    "a Box of float16": spaces.Box(-1, 1, (3,), np.float16),
    "a Box of float64 and two axes": spaces.Box(-1, 1, (2, 3), np.float64),
    "long whole numbers": spaces.Box(0, 9, (1500,), np.int64),
    "bytes that are no image": spaces.Box(0, 100, (36, 36, 3), np.uint8),
    "a Dict": spaces.Dict(
        {
            "it's": spaces.MultiBinary((2, 3)),
            "d": spaces.Discrete(3),
            "i": spaces.Box(-9, 9, (2,), np.int32),
            "f": spaces.Box(-1, 1, (2, 2), np.float16),
            "m": spaces.MultiDiscrete([3, 2]),
        }
    ),
}
ACTIONS: dict[str, gym.Space[Any]] = {
    "Discrete from 2": spaces.Discrete(3, start=2),
    "Discrete from -1": spaces.Discrete(3, start=-1),
    "MultiDiscrete from others": spaces.MultiDiscrete([3, 2], start=[1, 5]),
    "MultiBinary": spaces.MultiBinary(3),
    **{f"Box of {kind}": spaces.Box(1, 5, (2,), kind) for kind in (np.int8, np.int32, np.int64, np.uint8, np.uint16)},
    "a Box of float16": spaces.Box(-1, 1, (2,), np.float16),
    "a Box of float64": spaces.Box(-0.5, 2, (2, 3), np.float64),
}


def check(model: Any, pair: tuple[gym.Space[Any], gym.Space[Any]], path: Path) -> None:
    """Loaded in both ways, a teacher acts as the model does."""
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.normal_(0, 0.5, generator=rng)  # so that actions differ, and some reach their bounds
    model.save(path)
    pair[0].seed(0)
    seen = [pair[0].sample() for _ in range(60)]
    batch: Any = np.stack(seen)
    if isinstance(pair[0], spaces.Dict):
        batch = {key: np.stack([one[key] for one in seen]) for key in pair[0]}
    wanted = model.predict(batch, deterministic=True)[0]
    assert len(np.unique(wanted)) > 1
    for env in (pair, None):
        teacher = load_teacher(str(path), env=env)
        assert isinstance(teacher, GraphTeacher)
        found = teacher.predict(batch, deterministic=True)[0]
        np.testing.assert_allclose(found, wanted, atol=1e-5)
        assert found.dtype == wanted.dtype or isinstance(pair[1], spaces.MultiBinary)


@pytest.mark.parametrize("name", OBSERVATIONS)
@pytest.mark.parametrize("algorithm", [PPO, DQN], ids=["PPO", "DQN"])
def test_observations_are_read_as_stable_baselines3_reads_them(algorithm: Any, name: str, tmp_path: Path) -> None:
    pair = OBSERVATIONS[name], spaces.Discrete(5)
    policy = "MultiInputPolicy" if isinstance(pair[0], spaces.Dict) else "MlpPolicy"
    check(algorithm(policy, Fake(*pair), policy_kwargs={"net_arch": [16]}, seed=0), pair, tmp_path / "a.zip")


@pytest.mark.parametrize("name", ACTIONS)
def test_ppo_acts_as_it_does_in_stable_baselines3(name: str, tmp_path: Path) -> None:
    pair = VECTOR, ACTIONS[name]
    check(PPO("MlpPolicy", Fake(*pair), policy_kwargs={"net_arch": [16]}, seed=0), pair, tmp_path / "a.zip")


@pytest.mark.parametrize("name", [name for name in ACTIONS if "Box" in name])
def test_sac_acts_as_it_does_in_stable_baselines3(name: str, tmp_path: Path) -> None:
    pair = VECTOR, ACTIONS[name]
    model = SAC("MlpPolicy", Fake(*pair), policy_kwargs={"net_arch": [16]}, buffer_size=10, seed=0)
    check(model, pair, tmp_path / "a.zip")


def test_dqn_acts_from_0(tmp_path: Path) -> None:
    pair = VECTOR, spaces.Discrete(3, start=2)
    check(DQN("MlpPolicy", Fake(*pair), buffer_size=10, seed=0), pair, tmp_path / "a.zip")


def test_a_squashed_box_that_is_wider_than_its_type_is_refused(tmp_path: Path) -> None:
    # High minus low is -1 in int8, and that is what SAC would scale its actions by.
    space = spaces.Box(-128, 127, (1,), np.int8)
    SAC("MlpPolicy", Fake(VECTOR, space), buffer_size=10).save(tmp_path / "a.zip")
    with pytest.raises(KDError, match="wider than its own int8"):
        load_teacher(str(tmp_path / "a.zip"))


class FromZero(Fake):
    """Actions of a Discrete space that starts at 2; it takes those that Stable-Baselines3 hands on, from 0."""

    def __init__(self) -> None:
        super().__init__(VECTOR, spaces.Discrete(3, start=2))

    def step(self, action: Any) -> Any:
        assert action in (0, 1, 2)
        return super().step(action)


def test_an_agent_its_student_random_actions_and_the_export_all_act_from_0(register_env: Any, tmp_path: Path) -> None:
    env = register_env("kd_tests/FromZero-v0", FromZero)
    PPO("MlpPolicy", FromZero(), n_steps=16, batch_size=16, seed=0).save(tmp_path / "a.zip")
    # Whoever acted from 2 would have been stopped by the environment.
    distill({**settings(Agent(None, tmp_path / "a.zip", env), tmp_path / "run"), "exploration": 0.5})
    student = load_policy(tmp_path / "run" / "student.safetensors")
    export(student, tmp_path / "s.zip")
    assert student.graph.head.start == (0,)
    model = PPO.load(tmp_path / "s.zip", device="cpu")
    seen = np.stack([VECTOR.sample() for _ in range(40)])
    wanted = student.predict(seen, deterministic=True)[0]
    assert (model.predict(seen, deterministic=True)[0] == wanted).all()


def test_functions_act_as_the_environment_says(register_env: Any, tmp_path: Path) -> None:
    class FromTwo(Fake):
        def __init__(self) -> None:
            super().__init__(VECTOR, spaces.Discrete(3, start=2))

        def step(self, action: Any) -> Any:
            assert action in (2, 3, 4)
            return super().step(action)

    env = register_env("kd_tests/FromTwo-v0", FromTwo)

    def rule(observations: Any) -> Any:
        return 2 + (observations[:, 0] > 0) + (observations[:, 1] > 0)

    teacher = load_teacher(rule, env=(VECTOR, spaces.Discrete(3, start=2)))
    distill({**settings(Agent(None, tmp_path, env), tmp_path / "run"), "teacher": [], "exploration": 0.5}, teacher)
    student = load_policy(tmp_path / "run" / "student.safetensors")
    assert student.graph.head.start == (2,)
    with pytest.raises(KDError, match="its actions do not start at 0"):
        export(student, tmp_path / "s.zip")
