"""Agents of every algorithm, small and barely trained, in environments that mean nothing."""

import copy
import functools
import tempfile
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib import ARS, QRDQN, TQC, TRPO, CrossQ, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3

from kd_agent.teachers import GraphTeacher, load_teacher

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
        # Without a seed the stream goes on, as Gymnasium has it: a space that is seeded by None draws from the system.
        if seed is not None:
            self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self.observation_space.sample(), float(np.sum(action)), False, self.steps >= 9, {}

    def action_masks(self) -> Any:
        return np.ones(getattr(self.action_space, "n", 1), bool)


VECTOR = spaces.Box(-1, 1, (4,), np.float32)
VECTORS = {"obs": np.random.default_rng(0).uniform(-1, 1, (6, 4)).astype(np.float32)}
"""A batch of it by key."""
LAST = spaces.Box(0, 255, (36, 40, 3), np.uint8)
FIRST = spaces.Box(0, 255, (4, 36, 36), np.uint8)
BOX = spaces.Box(np.float32([-1, -2]), np.float32([1, 3]))
DICT = spaces.Dict(
    {
        "word": spaces.Discrete(3),
        "image": LAST,
        "arm": spaces.Box(-5, 5, (2, 2), np.float64),
        "dice": spaces.MultiDiscrete([2, 4]),
        "bits": spaces.MultiBinary(3),
    }
)
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

_FOLDER = tempfile.TemporaryDirectory()


@functools.cache
def trained(case: str) -> tuple[Any, Fake, Path]:
    """The model of a case, trained for a moment, its environment and its zip; made once a session."""
    algorithm, policy, observation_space, action_space, settings = CASES[case]
    env = Fake(observation_space, action_space)
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = algorithm(f"{policy}Policy", env, seed=0, device="cpu", **copy.deepcopy(settings))
        model.learn(48)
    spread(model)
    path = Path(_FOLDER.name) / f"{list(CASES).index(case)}.zip"
    model.save(path)
    return model, env, path


def spread(model: Any) -> None:
    """Make an untrained actor's outputs as large as a trained one's, so that mistakes show."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.policy.named_parameters():
            if parameter.ndim in (2, 4) and not name.startswith(("log_std", "actor.log_std")):
                fan_in = parameter[0].numel()
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=1.5 * fan_in**-0.5)


def observations(env: Fake, count: int = 100) -> Any:
    """A batch of an environment's observations, the same for everybody."""
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


def load(case: str) -> tuple[Any, Fake, GraphTeacher]:
    """The model of a case, its environment, and the teacher read from its zip."""
    model, env, path = trained(case)
    teacher = load_teacher(str(path), env=(env.observation_space, env.action_space))
    assert isinstance(teacher, GraphTeacher)
    return model, env, teacher
