"""Every algorithm and space: the graph read from a zip acts as the model that wrote it."""

import copy
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import kd_envs  # noqa: F401 - registers the probes
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import ARS, QRDQN, TQC, TRPO, CrossQ, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.distributions import Distribution

from kd_agent.graph_file import from_bytes, to_bytes
from kd_agent.policy import GraphTeacher
from kd_agent.runtime import Policy
from kd_agent.spaces import as_mapping
from kd_agent.teachers import load_teacher
from kd_agent.teachers._layers import DETERMINISTIC_LOG_STD

SMALL: dict[str, Any] = {"net_arch": [8, 8]}
STEPS = {"n_steps": 16, "batch_size": 16}
REPLAY = {"buffer_size": 300, "learning_starts": 20, "batch_size": 16}
SDE = {"use_sde": True}
TINY_CNN: dict[str, Any] = {"features_extractor_kwargs": {"features_dim": 16}}


class Fake(gym.Env[Any, Any]):
    """Random observations of any space, short episodes."""

    def __init__(self, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
        self.observation_space, self.action_space = observation_space, action_space
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self.observation_space.sample(), float(np.sum(action)), False, self.steps >= 9, {}

    def action_masks(self) -> Any:
        return np.ones(getattr(self.action_space, "n", 1), bool)


VECTOR = spaces.Box(-1, 1, (4,), np.float32)
LAST = spaces.Box(0, 255, (36, 40, 3), np.uint8)
FIRST = spaces.Box(0, 255, (4, 36, 36), np.uint8)
BOX = spaces.Box(np.float32([-1, -2]), np.float32([1, 3]))
DICT = spaces.Dict({"word": spaces.Discrete(3), "image": LAST, "arm": spaces.Box(-5, 5, (2, 2), np.float64),
                    "dice": spaces.MultiDiscrete([2, 4]), "bits": spaces.MultiBinary(3)})  # fmt: skip
CHOICE = spaces.Discrete(4)

CASES: dict[str, tuple[Any, str, Any, Any, dict[str, Any]]] = {
    "ppo discrete": (PPO, "Mlp", VECTOR, CHOICE, {**STEPS, "policy_kwargs": SMALL}),
    "ppo multi-discrete": (PPO, "Mlp", VECTOR, spaces.MultiDiscrete([3, 4]), STEPS),
    "ppo multi-binary": (PPO, "Mlp", VECTOR, spaces.MultiBinary(3), STEPS),
    "ppo box, silu, unequal nets": (
        PPO, "Mlp", VECTOR, BOX,
        {**STEPS, "policy_kwargs": {"net_arch": {"pi": [6, 5], "vf": [7]}, "activation_fn": torch.nn.SiLU}},
    ),
    "ppo gsde, squashed": (
        PPO, "Mlp", VECTOR, BOX, {**STEPS, **SDE, "policy_kwargs": {**SMALL, "squash_output": True}},
    ),
    "ppo gsde, expln": (
        PPO, "Mlp", VECTOR, BOX,
        {**STEPS, **SDE, "policy_kwargs": {**SMALL, "use_expln": True, "full_std": False, "log_std_init": 0.3}},
    ),
    "ppo image, channels last, gelu": (
        PPO, "Cnn", LAST, BOX,
        {**STEPS, "policy_kwargs": {**TINY_CNN, "net_arch": {"pi": [8], "vf": [8]}, "activation_fn": torch.nn.GELU}},
    ),
    "ppo image, two extractors": (
        PPO, "Cnn", FIRST, CHOICE,
        {**STEPS, "policy_kwargs": {**TINY_CNN, "share_features_extractor": False}},
    ),
    "ppo image through an mlp": (PPO, "Mlp", LAST, CHOICE, STEPS),
    "ppo dict": (PPO, "MultiInput", DICT, CHOICE, STEPS),
    "ppo discrete observations": (PPO, "Mlp", spaces.Discrete(5), CHOICE, STEPS),
    "ppo multi-discrete observations": (PPO, "Mlp", spaces.MultiDiscrete([3, 5]), CHOICE, STEPS),
    "ppo multi-binary observations": (PPO, "Mlp", spaces.MultiBinary(4), CHOICE, STEPS),
    "ppo float64 matrix": (PPO, "Mlp", spaces.Box(-3, 3, (2, 3), np.float64), CHOICE, STEPS),
    "a2c": (A2C, "Mlp", VECTOR, CHOICE, {"policy_kwargs": SMALL}),
    "a2c gsde": (A2C, "Mlp", VECTOR, BOX, SDE),
    "trpo": (TRPO, "Mlp", VECTOR, BOX, {**STEPS, "policy_kwargs": SMALL}),
    "maskable ppo": (MaskablePPO, "Mlp", VECTOR, CHOICE, STEPS),
    "dqn": (DQN, "Mlp", VECTOR, CHOICE, {**REPLAY, "policy_kwargs": SMALL}),
    "dqn image": (DQN, "Cnn", LAST, CHOICE, REPLAY),
    "qr-dqn": (QRDQN, "Mlp", VECTOR, CHOICE, {**REPLAY, "policy_kwargs": {**SMALL, "n_quantiles": 3}}),
    "sac": (SAC, "Mlp", VECTOR, BOX, {**REPLAY, "policy_kwargs": {"net_arch": {"pi": [8, 6], "qf": [5]}}}),
    "sac gsde": (SAC, "Mlp", VECTOR, BOX, {**REPLAY, **SDE, "policy_kwargs": {**SMALL, "clip_mean": 0.5}}),
    "sac gsde, unbounded means": (
        SAC, "Mlp", VECTOR, BOX, {**REPLAY, **SDE, "policy_kwargs": {**SMALL, "clip_mean": 0.0}},
    ),
    "sac dict": (SAC, "MultiInput", DICT, BOX, {**REPLAY, "policy_kwargs": SMALL}),
    "sac image, one extractor": (
        SAC, "Cnn", LAST, BOX, {**REPLAY, "policy_kwargs": {**SMALL, "share_features_extractor": True}},
    ),
    "td3": (TD3, "Mlp", VECTOR, BOX, {**REPLAY, "policy_kwargs": SMALL}),
    "ddpg": (DDPG, "Mlp", VECTOR, BOX, {**REPLAY, "policy_kwargs": SMALL}),
    "tqc": (TQC, "Mlp", VECTOR, BOX, {**REPLAY, "policy_kwargs": SMALL}),
    "tqc gsde": (TQC, "Mlp", VECTOR, BOX, {**REPLAY, **SDE, "policy_kwargs": SMALL}),
    "crossq": (CrossQ, "Mlp", VECTOR, BOX, {**REPLAY, "policy_kwargs": {"net_arch": {"pi": [8, 8], "qf": [16]}}}),
    "crossq gsde": (
        CrossQ, "Mlp", VECTOR, BOX, {**REPLAY, **SDE, "policy_kwargs": {"net_arch": {"pi": [8], "qf": [16]}}},
    ),
    "ars linear": (ARS, "Linear", VECTOR, BOX, {"n_delta": 2}),
    "ars mlp": (ARS, "Mlp", VECTOR, BOX, {"n_delta": 2, "policy_kwargs": SMALL}),
    "ars discrete": (ARS, "Linear", VECTOR, CHOICE, {"n_delta": 2}),
    "recurrent ppo": (RecurrentPPO, "MlpLstm", VECTOR, CHOICE, {**STEPS, "policy_kwargs": {"lstm_hidden_size": 8}}),
    "recurrent ppo, shared, two layers": (
        RecurrentPPO, "MlpLstm", VECTOR, BOX,
        {**STEPS, "policy_kwargs": {"lstm_hidden_size": 6, "n_lstm_layers": 2, "shared_lstm": True,
                                    "enable_critic_lstm": False}},
    ),
    "recurrent ppo, image, critic without memory": (
        RecurrentPPO, "CnnLstm", LAST, CHOICE,
        {**STEPS, "policy_kwargs": {"lstm_hidden_size": 8, "enable_critic_lstm": False}},
    ),
}  # fmt: skip

ALGORITHMS = {"qr-dqn": "QR-DQN", "maskable": "MaskablePPO", "recurrent": "RecurrentPPO", "crossq": "CrossQ"}
Trained = dict[str, tuple[Any, Any, Path]]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A function that trains a case for a moment, once, and saves it."""
    made: Trained = {}
    folder = tmp_path_factory.mktemp("algorithms")
    torch.set_num_threads(1)

    def train(case: str) -> tuple[Any, Any, Path]:
        if case not in made:
            algorithm, policy, observation_space, action_space, settings = CASES[case]
            env = Fake(observation_space, action_space)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = algorithm(f"{policy}Policy", env, seed=0, device="cpu", **copy.deepcopy(settings))
                model.learn(48)
            spread(model)
            path = folder / f"{len(made)}.zip"
            model.save(path)
            made[case] = (model, env, path)
        return made[case]

    yield train
    made.clear()


def spread(model: Any) -> None:
    """Make an untrained actor's outputs as large as a trained one's, so that mistakes show."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.policy.named_parameters():
            if parameter.ndim in (2, 4) and not name.startswith(("log_std", "actor.log_std")):
                fan_in = parameter[0].numel()
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=1.5 * fan_in**-0.5)


def observations(env: Fake, count: int = 100) -> Any:
    env.observation_space.seed(5)
    samples = [env.observation_space.sample() for _ in range(count)]
    if isinstance(env.observation_space, spaces.Dict):
        return {key: coloured(np.stack([sample[key] for sample in samples])) for key in samples[0]}
    return coloured(np.stack(samples))


def coloured(batch: Any) -> Any:
    """Images differ in colour too: to a network, one of pure noise looks like any other."""
    if batch.dtype != np.uint8 or batch.ndim != 4:
        return batch
    axes = (0, 3) if batch.shape[3] < batch.shape[1] else (0, 1)
    shape = [size if axis in axes else 1 for axis, size in enumerate(batch.shape)]
    return (batch // 4 + np.random.default_rng(0).integers(0, 190, shape)).astype(np.uint8)


def as_model_wants(model: Any, batch: Any) -> Any:
    """SB3's models take images with the channels first and turn others themselves; Dicts they do not."""
    if not isinstance(batch, dict):
        return batch
    turned = model.observation_space["image"].shape != DICT["image"].shape if "image" in batch else False
    return {key: np.moveaxis(x, 3, 1) if turned and key == "image" else x for key, x in batch.items()}


def load(trained: Any, case: str) -> tuple[Any, Any, GraphTeacher]:
    model, env, path = trained(case)
    teacher = load_teacher(str(path), env=(env.observation_space, env.action_space))
    assert isinstance(teacher, GraphTeacher)
    return model, env, teacher


@pytest.mark.parametrize("case", CASES)
def test_the_graph_acts_as_the_model_does(trained: Any, case: str) -> None:
    model, env, teacher = load(trained, case)
    batch = observations(env)
    wanted, _ = model.predict(as_model_wants(model, batch), deterministic=True)
    actions, _ = teacher.predict(batch, deterministic=True)
    assert actions.dtype == env.action_space.dtype
    if isinstance(env.action_space, spaces.Box):
        np.testing.assert_allclose(actions, wanted, atol=1e-5, rtol=1e-5)
    else:
        assert np.mean(actions == wanted) > 0.98  # ties to the last bit may fall either way
    acting = teacher(as_mapping(batch)).params.numpy()[:, : teacher.head.spec.num_acting]
    assert np.ptp(acting, axis=0).min() > 1e-2, "the test would not see a mistake"


def distribution(model: Any, batch: Any) -> Distribution:
    policy = model.policy
    policy.set_training_mode(False)
    tensors, _ = policy.obs_to_tensor(as_model_wants(model, batch))
    if hasattr(policy, "actor"):
        mean, log_std, rest = policy.actor.get_action_dist_params(tensors)
        return policy.actor.action_dist.proba_distribution(mean, log_std, *rest.values())
    if isinstance(model, RecurrentPPO):
        count = len(next(iter(tensors.values()))) if isinstance(tensors, dict) else len(tensors)
        layers, _, size = policy.lstm_hidden_state_shape
        zeros = torch.zeros(layers, count, size)
        return policy.get_distribution(tensors, (zeros, zeros), torch.ones(count))[0]
    return policy.get_distribution(tensors)


WITH_DENSITY = [c for c in CASES if not c.startswith(("dqn", "qr-dqn", "td3", "ddpg", "ars"))]


@pytest.mark.parametrize("case", WITH_DENSITY)
@torch.no_grad()
def test_the_row_is_the_distribution_of_the_model(trained: Any, case: str) -> None:
    model, env, teacher = load(trained, case)
    batch = observations(env, 20)
    params = teacher(as_mapping(batch)).params
    theirs = distribution(model, batch)
    ours = teacher.head.distribution(params)
    if isinstance(env.action_space, spaces.Box):
        mean, log_std = params.chunk(2, dim=-1)
        torch.testing.assert_close(mean, theirs.distribution.mean, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(log_std.exp(), theirs.distribution.stddev, atol=1e-5, rtol=1e-4)
    elif isinstance(env.action_space, spaces.Discrete):
        torch.testing.assert_close(ours.probs, theirs.distribution.probs, atol=1e-5, rtol=1e-4)
    else:
        actions = theirs.sample()
        torch.testing.assert_close(ours.log_prob(actions), theirs.log_prob(actions), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("case", ["dqn", "qr-dqn", "dqn image"])
@torch.no_grad()
def test_the_row_of_a_value_based_teacher_is_its_action_values(trained: Any, case: str) -> None:
    model, env, teacher = load(trained, case)
    batch = observations(env, 20)
    tensors, _ = model.policy.obs_to_tensor(batch)
    values = model.policy.quantile_net(tensors).mean(1) if case == "qr-dqn" else model.policy.q_net(tensors)
    torch.testing.assert_close(teacher(as_mapping(batch)).params, values, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("case", ["td3", "ddpg", "ars linear", "ars mlp"])
def test_a_teacher_without_a_density_gets_the_stated_one(trained: Any, case: str) -> None:
    _, env, teacher = load(trained, case)
    _, log_std = teacher(as_mapping(observations(env, 3))).params.chunk(2, dim=-1)
    assert torch.all(log_std == np.float32(DETERMINISTIC_LOG_STD))


@pytest.mark.parametrize("case", CASES)
def test_the_algorithm_is_recognised(trained: Any, case: str) -> None:
    _, _, teacher = load(trained, case)
    first = case.split(",", maxsplit=1)[0].split(maxsplit=1)[0]
    assert teacher.origin.algo == ALGORITHMS.get(first, first.upper())


@pytest.mark.parametrize(
    "case", ["ppo box, silu, unequal nets", "ppo image, two extractors", "ppo dict", "maskable ppo"]
)
@torch.no_grad()
def test_the_value_is_the_critics(trained: Any, case: str) -> None:
    model, env, teacher = load(trained, case)
    batch = observations(env, 20)
    tensors, _ = model.policy.obs_to_tensor(as_model_wants(model, batch))
    value = teacher(as_mapping(batch)).value
    assert value is not None
    torch.testing.assert_close(value, model.policy.predict_values(tensors)[:, 0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("recurrent")])
def test_memory_is_carried_and_begins_anew_with_each_episode(trained: Any, case: str) -> None:
    model, env, teacher = load(trained, case)
    policy = Policy(from_bytes(to_bytes(teacher.graph)))
    rng = np.random.default_rng(0)
    theirs: Any = None
    ours: Any = None
    saved: Any = None
    starts = np.ones(3, bool)
    for batch in observations(env, 120).reshape(40, 3, *env.observation_space.shape):
        wanted, theirs = model.predict(batch, theirs, starts, deterministic=True)
        actions, ours = teacher.predict(batch, ours, starts, deterministic=True)
        again, saved = policy.predict(batch, saved, starts, deterministic=True)
        np.testing.assert_allclose(actions, wanted, atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(again, wanted, atol=1e-5)
        hidden = np.concatenate([np.asarray(array)[:, : array.shape[1] // 2] for array in ours], axis=-1)
        np.testing.assert_allclose(hidden, np.concatenate(theirs[0], axis=-1), atol=1e-4)
        starts = rng.random(3) < 0.2


@pytest.mark.parametrize("case", ["ppo image, channels last, gelu", "ppo dict", "dqn image", "sac dict"])
def test_a_teacher_loads_without_its_environment(trained: Any, case: str) -> None:
    model, env, path = trained(case)
    alone = load_teacher(str(path))
    batch = observations(env, 10)
    seen = as_model_wants(model, batch) if isinstance(batch, dict) else np.moveaxis(batch, 3, 1)
    first, _ = alone.predict(seen, deterministic=True)
    second, _ = load_teacher(str(path), env=(env.observation_space, env.action_space)).predict(
        batch, deterministic=True
    )
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_only_what_acts_is_counted(trained: Any) -> None:
    _, _, sac = load(trained, "sac")
    assert sac.origin.num_parameters == (4 * 8 + 8) + (8 * 6 + 6) + (6 * 2 + 2)
    _, _, ars = load(trained, "ars linear")
    assert ars.origin.num_parameters == 4 * 2
    _, _, lstm = load(trained, "recurrent ppo")
    assert lstm.origin.num_parameters == 4 * 8 * (4 + 8 + 1) + (8 * 64 + 64) + (64 * 64 + 64) + (64 * 4 + 4)


def test_a_teacher_is_the_same_before_and_after_a_query(trained: Any) -> None:
    _, env, teacher = load(trained, "crossq")
    before = to_bytes(teacher.graph)
    batch = as_mapping(observations(env, 10))
    first = teacher(batch).params
    torch.testing.assert_close(teacher(batch).params, first, atol=0, rtol=0)
    assert to_bytes(teacher.graph) == before
