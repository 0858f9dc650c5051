"""Policies that other libraries saved, and what they themselves answer: `tests/teachers/data`, by `tests/makers`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from kd_agent.networks.base import Teacher
from kd_agent.policies import Array

FOLDER = Path(__file__).parent / "teachers" / "data"
CHOICE = gym.spaces.Discrete(2)
FORCES = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
TORQUE = gym.spaces.Box(-2, 2, (1,), np.float32)
WIDE = gym.spaces.Box(-9, 9, (1,), np.float32)
UNIT = gym.spaces.Box(-1, 1, (1,), np.float32)


@dataclass(frozen=True)
class Saved:
    """A policy that a library saved.

    Attributes:
        file: Its path below `FOLDER`.
        observed: How many numbers it observes.
        actions: The action space.
        said: What the file does not say and the library does not do by default, as arguments of `load_teacher`.
        assumed: What is then taken from the library, as the warning has it; "" where nothing is.
    """

    file: str
    observed: int
    actions: gym.Space[Any]
    said: dict[str, Any] = field(default_factory=dict)
    assumed: str = ""

    @property
    def path(self) -> Path:
        return FOLDER / self.file

    @property
    def env(self) -> tuple[gym.Space[Any], gym.Space[Any]]:
        return gym.spaces.Box(-np.inf, np.inf, (self.observed,), np.float32), self.actions

    def answers(self) -> dict[str, Array]:
        """1,000 observations, the library's own greedy actions, and what else it said."""
        stem = self.path.with_suffix("").name
        with np.load(self.path.parent / f"{stem}_answers.npz") as archive:
            found = dict(archive)
        return {**found, "observations": found["observations"].astype(np.float32)}


ELU, RELU, SILU, TANH = "activation elu", "activation relu", "activation silu", "activation tanh"
SQUASH = {name: f"squash {name}" for name in ("tanh", "clip", "none")}
SAVED = (
    Saved("rsl_rl/model_mlp.pt", 4, FORCES, {}, f"{ELU} {SQUASH['none']}"),
    Saved("rsl_rl/model_lstm.pt", 4, FORCES, {}, f"{ELU} {SQUASH['none']}"),
    Saved("rsl_rl/model_gru.pt", 4, FORCES, {}, f"{ELU} {SQUASH['none']}"),
    Saved("rsl_rl/model_student.pt", 4, FORCES, {}, f"{ELU} {SQUASH['none']}"),
    Saved("rsl_rl/model_tanh.pt", 4, FORCES, {"teacher_activation": "tanh"}, SQUASH["none"]),
    Saved("skrl/agent_shared.pt", 3, TORQUE, {}, f"{ELU} {SQUASH['none']}"),
    Saved("skrl/agent_apart.pt", 3, TORQUE, {"teacher_activation": "tanh"}, SQUASH["none"]),
    Saved("skrl/agent_td3.pt", 3, TORQUE, {}, f"{RELU} {SQUASH['tanh']}"),
    Saved("skrl/agent_discrete.pt", 4, CHOICE, {}, ELU),
    Saved("skrl/agent_dqn.pt", 4, CHOICE, {}, RELU),
    Saved("rl_games/pendulum.pth", 3, TORQUE, {}, f"{ELU} {SQUASH['clip']}"),
    Saved("rl_games/lstm.pth", 3, TORQUE, {}, f"{ELU} {SQUASH['clip']}"),
    Saved("rl_games/gru.pth", 3, TORQUE, {}, f"{ELU} {SQUASH['clip']}"),
    Saved("rl_games/cartpole.pth", 4, CHOICE, {"teacher_activation": "relu"}),
    Saved("cleanrl/ppo.cleanrl_model", 4, CHOICE, {}, TANH),
    Saved(
        "cleanrl/ppocontinuous.cleanrl_model", 3, TORQUE, {"allow_missing_statistics": True},
        f"{TANH} {SQUASH['none']}",
    ),
    Saved("cleanrl/dqn.cleanrl_model", 4, CHOICE, {}, RELU),
    Saved("cleanrl/td3.cleanrl_model", 3, TORQUE, {}, f"{RELU} {SQUASH['tanh']}"),
    Saved("cleanrl/sac.cleanrl_model", 3, TORQUE, {}, f"{RELU} {SQUASH['tanh']}"),
    Saved("imitation/bc_saved.pt", 4, CHOICE),
    Saved("imitation/bc_module.pt", 3, TORQUE),
    Saved("imitation/bc_normal.pt", 3, TORQUE),
    Saved("imitation/dagger_policy.pt", 4, CHOICE),
    Saved("imitation/dagger_trainer.pt", 4, CHOICE),
    Saved("torchscript/elu.pt", 3, TORQUE),
    Saved("torchscript/silu.pt", 3, TORQUE),
    Saved("torchscript/gelu.pt", 3, TORQUE),
    Saved("torchscript/choice.pt", 4, CHOICE),
    Saved("torchscript/rsl_rl.pt", 4, FORCES),
    Saved("flax/brax_ppo.msgpack", 3, UNIT, {}, f"{SILU} {SQUASH['tanh']}"),
    Saved("flax/brax_ppo.safetensors", 3, UNIT, {}, f"{SILU} {SQUASH['tanh']}"),
    Saved("flax/brax_ppo.pkl", 3, UNIT, {}, f"{SILU} {SQUASH['tanh']}"),
    Saved("flax/brax_sac.msgpack", 3, UNIT, {"teacher_activation": "relu"}, SQUASH["tanh"]),
    Saved("flax/brax_sac.safetensors", 3, UNIT, {"teacher_activation": "relu"}, SQUASH["tanh"]),
    Saved("flax/brax_sac.pkl", 3, UNIT, {"teacher_activation": "relu"}, SQUASH["tanh"]),
    Saved("flax/choice.msgpack", 4, CHOICE, {}, RELU),
    Saved("flax/actor_critic.safetensors", 3, WIDE, {},
          f"{TANH} {SQUASH['none']}"),
)  # fmt: skip
BY_FILE = {saved.file: saved for saved in SAVED}


def greedy(teacher: Teacher, observations: Array) -> Array:
    """A teacher's greedy actions; of one with a memory in 10 episodes of 100 steps, side by side."""
    if not teacher.recurrent:
        return teacher.head.spec.greedy(teacher({"obs": observations}).params.numpy())
    state, actions = None, []
    for step in observations.reshape(100, 10, -1):
        output = teacher({"obs": step}, state, np.zeros(10, bool))
        state = output.state
        actions.append(teacher.head.spec.greedy(output.params.numpy()))
    return np.concatenate(actions)
