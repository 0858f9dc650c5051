"""Write checkpoints of rl_games, and what its own players do: `python tests/makers/rl_games_files.py OUT`.

Made with rl-games 1.6.5 (MIT, Denys Makoviichuk and Viktor Makoviychuk), torch 2.13.0 and gymnasium 1.4.0, in an
environment of their own. Its runner trains a few epochs, so that its running mean has seen something, and saves by
its own `save`. Beside each `.pth` lie 1,000 observations and the greedy actions of its own player; of a policy with a
memory these are 10 episodes of 100 steps.
"""

import sys
import tempfile
from pathlib import Path

import gymnasium
import numpy as np
import torch
from rl_games.common import env_configurations, vecenv
from rl_games.common.ivecenv import IVecEnv
from rl_games.torch_runner import Runner

WORLDS = 8


class Worlds(IVecEnv):
    """Gymnasium environments one after the other; rl_games acts in [-1, 1]."""

    def __init__(self, config_name: str, num_actors: int, **_) -> None:
        create = env_configurations.configurations[config_name]["env_creator"]
        self.envs = [create() for _ in range(num_actors)]
        self.observation_space, self.action_space = self.envs[0].observation_space, self.envs[0].action_space

    def reset(self):
        return np.stack([env.reset(seed=number)[0] for number, env in enumerate(self.envs)]).astype(np.float32)

    def step(self, actions):
        observations, rewards, dones = [], [], []
        for env, action in zip(self.envs, np.asarray(actions), strict=True):
            observation, reward, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                observation, _ = env.reset()
            observations.append(observation)
            rewards.append(reward)
            dones.append(terminated or truncated)
        return np.stack(observations).astype(np.float32), np.float32(rewards), np.array(dones, np.uint8), {}

    def get_env_info(self):
        return {"action_space": self.action_space, "observation_space": self.observation_space}


def settings(env: str, continuous: bool, activation: str, rnn: dict | None = None, **network) -> dict:
    """Settings of a run of PPO."""
    sigma = {"mu_activation": "None", "sigma_activation": "None", "fixed_sigma": True}
    sigma |= {"mu_init": {"name": "default"}, "sigma_init": {"name": "const_initializer", "val": -0.5}}
    kind = "continuous" if continuous else "discrete"
    parts = {
        "name": "actor_critic",
        "separate": False,
        "space": {kind: sigma if continuous else None},
        "mlp": {"units": [8, 6], "activation": activation, "initializer": {"name": "default"}},
        **network,
    }
    if rnn:
        parts["rnn"] = rnn
    config = {
        "name": "small", "env_name": env, "reward_shaper": {"scale_value": 0.1}, "normalize_advantage": True,
        "gamma": 0.99, "tau": 0.95, "learning_rate": 1e-2, "score_to_win": 10**9, "grad_norm": 1.0, "entropy_coef": 0.0,
        "truncate_grads": True, "e_clip": 0.2, "clip_value": True, "num_actors": WORLDS, "horizon_length": 16,
        "minibatch_size": 64, "mini_epochs": 2, "critic_coef": 1, "lr_schedule": None, "kl_threshold": 0.008,
        "normalize_input": True, "normalize_value": True, "bounds_loss_coef": 0.0, "max_epochs": 20, "device": "cpu",
        "device_name": "cpu", "seq_length": 16, "save_best_after": 10**6, "ppo": True, "print_stats": False,
    }  # fmt: skip
    model = "continuous_a2c_logstd" if continuous else "discrete_a2c"
    return {"params": {
        "seed": 0, "algo": {"name": f"a2c_{kind}"}, "model": {"name": model}, "load_checkpoint": False,
        "network": parts, "config": config,
    }}  # fmt: skip


def main(out: Path) -> None:
    """Write all."""
    out.mkdir(parents=True, exist_ok=True)
    vecenv.register("WORLDS", Worlds)
    for env in ("Pendulum-v1", "CartPole-v1"):
        creator = {"env_creator": lambda name=env, **_: gymnasium.make(name), "vecenv_type": "WORLDS"}
        env_configurations.register(f"small-{env}", creator)
    lstm = {"name": "lstm", "units": 6, "layers": 1, "before_mlp": True}
    after = {"name": "gru", "units": 6, "layers": 1, "before_mlp": False}
    cases = {
        "pendulum": settings("small-Pendulum-v1", True, "elu"),
        "lstm": settings("small-Pendulum-v1", True, "elu", lstm),
        "gru": settings("small-Pendulum-v1", True, "elu", after),
        "cartpole": settings("small-CartPole-v1", False, "relu", separate=True),
    }
    for name, run in cases.items():
        torch.manual_seed(0)
        runner = Runner()
        with tempfile.TemporaryDirectory() as folder:
            run["params"]["config"]["train_dir"] = folder
            runner.load(run)
            agent = runner.algo_factory.create(runner.algo_name, base_name="run", params=runner.params)
            agent.train()
            agent.save(str(out / name))
        # A player makes an environment of its own, of which it needs the spaces alone.
        run["params"]["config"]["player"] = {"use_vecenv": False}
        runner.load(run)
        player = runner.create_player()
        player.restore(str(out / f"{name}.pth"))
        answer(player, out / f"{name}_answers.npz")


def answer(player, path: Path) -> None:
    """Ask for the greedy actions of 1,000 observations."""
    rng = np.random.default_rng(1)
    # Of half precision, so that the files are small.
    observations = rng.normal(0, 1.5, (1000, player.observation_space.shape[0])).astype(np.float16)
    batch = torch.from_numpy(observations.astype(np.float32))
    player.has_batch_dimension = True
    if player.is_rnn:
        player.num_agents, player.model.a2c_network.num_seqs, player.batch_size = 10, 10, 10
        player.init_rnn()
        steps = [player.get_action(step, is_deterministic=True) for step in batch.reshape(100, 10, -1)]
        actions = torch.cat(steps)
    else:
        actions = player.get_action(batch, is_deterministic=True)
    np.savez_compressed(path, observations=observations, actions=actions.numpy())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
