"""Write agents of skrl, and what its own policies answer: `python tests/makers/skrl_files.py OUT`.

Made with skrl 2.1.1 (MIT, Toni-SM), torch 2.13.0 and gymnasium 1.4.0, in an environment of their own. Its trainer
trains a few hundred steps, so that its scaler has seen something, and its agents save by their own `save`. Beside each
`agent_*.pt` lie 1,000 observations and the library's own greedy actions: means, or the largest logit or value.
"""

import sys
from pathlib import Path

import gymnasium
import numpy as np
import torch
from skrl.agents.torch.dqn import DQN
from skrl.agents.torch.ppo import PPO
from skrl.agents.torch.td3 import TD3
from skrl.envs.wrappers.torch import wrap_env
from skrl.memories.torch import RandomMemory
from skrl.models.torch import DeterministicMixin, Model
from skrl.resources.preprocessors.torch import RunningStandardScaler
from skrl.trainers.torch import SequentialTrainer
from skrl.utils import set_seed
from skrl.utils.model_instantiators.torch import categorical_model, deterministic_model, gaussian_model, shared_model
from torch import nn

WORLDS = 4
LATE = 10**6
"""A time step at which nothing is explored any more."""


def net(activation: str) -> list[dict]:
    """Settings of the hidden layers."""
    return [{"name": "net", "input": "OBSERVATIONS", "layers": [8, 6], "activations": activation}]


class Value(DeterministicMixin, Model):
    """Action values by a `Sequential` of one's own, as skrl's examples have them."""

    def __init__(self, observation_space, action_space) -> None:
        Model.__init__(self, observation_space=observation_space, action_space=action_space, device="cpu")
        DeterministicMixin.__init__(self)
        sizes = self.num_observations, self.num_actions
        self.net = nn.Sequential(nn.Linear(sizes[0], 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, sizes[1]))

    def compute(self, inputs, role):
        return self.net(inputs["observations"]), {}


class Actor(DeterministicMixin, Model):
    """Actions through tanh, by layers of one's own."""

    def __init__(self, observation_space, action_space) -> None:
        Model.__init__(self, observation_space=observation_space, action_space=action_space, device="cpu")
        DeterministicMixin.__init__(self)
        self.linear_layer_1 = nn.Linear(self.num_observations, 8)
        self.linear_layer_2 = nn.Linear(8, 6)
        self.action_layer = nn.Linear(6, self.num_actions)

    def compute(self, inputs, role):
        x = torch.relu(self.linear_layer_1(inputs["observations"]))
        x = torch.relu(self.linear_layer_2(x))
        return 2 * torch.tanh(self.action_layer(x)), {}


class Critic(DeterministicMixin, Model):
    """The value of an action."""

    def __init__(self, observation_space, action_space) -> None:
        Model.__init__(self, observation_space=observation_space, action_space=action_space, device="cpu")
        DeterministicMixin.__init__(self)
        self.net = nn.Sequential(nn.Linear(self.num_observations + self.num_actions, 8), nn.ReLU(), nn.Linear(8, 1))

    def compute(self, inputs, role):
        return self.net(torch.cat([inputs["observations"], inputs["taken_actions"]], dim=-1)), {}


def scaled(env) -> dict:
    """Settings of the observations' scaler."""
    return {
        "observation_preprocessor": RunningStandardScaler,
        "observation_preprocessor_kwargs": {"size": env.observation_space, "device": "cpu"},
    }


def ppo(env, models, **settings):
    """An agent of PPO."""
    memory = RandomMemory(memory_size=32, num_envs=WORLDS, device="cpu")
    cfg = {"rollouts": 32, "learning_epochs": 2, **settings}
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    return PPO(models=models, memory=memory, **spaces, device="cpu", cfg=cfg)


def off_policy(kind, env, models, **settings):
    """An agent of DQN or TD3."""
    memory = RandomMemory(memory_size=500, num_envs=WORLDS, device="cpu")
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    cfg = {"learning_starts": 20, "random_timesteps": 20, "batch_size": 32, **settings}
    return kind(models=models, memory=memory, **spaces, device="cpu", cfg=cfg)


def agents():
    """Name, environment and agent of each case."""
    env = wrap_env(gymnasium.make_vec("Pendulum-v1", num_envs=WORLDS, vectorization_mode="sync"), verbose=False)
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space, "device": "cpu"}
    both = shared_model(
        **spaces,
        structure=["GaussianMixin", "DeterministicMixin"],
        roles=["policy", "value"],
        parameters=[
            {"network": net("elu"), "output": "ACTIONS", "initial_log_std": -0.5},
            {"network": net("elu"), "output": "ONE"},
        ],
    )
    yield "shared", env, ppo(env, {"policy": both, "value": both}, **scaled(env))
    apart = {
        "policy": gaussian_model(**spaces, network=net("tanh"), output="ACTIONS"),
        "value": deterministic_model(**spaces, network=net("tanh"), output="ONE"),
    }
    yield "apart", env, ppo(env, apart)
    kinds = {"policy": Actor, "target_policy": Actor}
    kinds |= dict.fromkeys(("critic_1", "critic_2", "target_critic_1", "target_critic_2"), Critic)
    td3 = {role: kind(env.observation_space, env.action_space) for role, kind in kinds.items()}
    yield "td3", env, off_policy(TD3, env, td3)
    env = wrap_env(gymnasium.make_vec("CartPole-v1", num_envs=WORLDS, vectorization_mode="sync"), verbose=False)
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space, "device": "cpu"}
    models = {
        "policy": categorical_model(**spaces, network=net("elu"), output="ACTIONS"),
        "value": deterministic_model(**spaces, network=net("elu"), output="ONE"),
    }
    yield "discrete", env, ppo(env, models, **scaled(env))
    dqn = {role: Value(env.observation_space, env.action_space) for role in ("q_network", "target_q_network")}
    explore = {"exploration_scheduler": lambda timestep, _: 0.5 if timestep < LATE else 0.0}
    yield "dqn", env, off_policy(DQN, env, dqn, learning_rate=1e-2, **explore)


def greedy(agent, observations: np.ndarray) -> np.ndarray:
    """What the agent does without chance."""
    agent.enable_training_mode(False)
    with torch.no_grad():
        actions, outputs = agent.act(torch.from_numpy(observations), None, timestep=LATE, timesteps=LATE)
    if "net_output" in outputs:
        return outputs["net_output"].argmax(-1).numpy()
    return outputs.get("mean_actions", actions).numpy()


def main(out: Path) -> None:
    """Write all."""
    out.mkdir(parents=True, exist_ok=True)
    set_seed(0)
    for name, env, agent in agents():
        trainer = SequentialTrainer(
            env=env, agents=agent, cfg={"timesteps": 500, "headless": True, "disable_progressbar": True}
        )
        trainer.train()
        agent.save(str(out / f"agent_{name}.pt"))
        rng = np.random.default_rng(1)
        size = env.observation_space.shape[0]
        # Of half precision, so that the files are small.
        observations = rng.normal(0, 2, (1000, size)).astype(np.float16)
        actions = greedy(agent, observations.astype(np.float32))
        np.savez_compressed(out / f"agent_{name}_answers.npz", observations=observations, actions=actions)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
