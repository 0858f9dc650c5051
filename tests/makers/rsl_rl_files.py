"""Write checkpoints of rsl_rl, and what its own policies answer: `python tests/makers/rsl_rl_files.py OUT`.

Made with rsl-rl-lib 5.5.1, torch 2.13.0 and tensordict 0.15.3 (BSD-3-Clause, ETH Zurich and NVIDIA), in an environment
of their own. Its runner trains a few iterations in the small world below, so that its normaliser has seen something,
and saves by its own `save`. Beside each `model_*.pt` lie 1,000 observations and the library's own greedy actions; of a
policy with a memory these are 10 episodes of 100 steps.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from rsl_rl.env import VecEnv
from rsl_rl.runners import DistillationRunner, OnPolicyRunner
from tensordict import TensorDict

OBSERVED, ACTIONS, WORLDS = 4, 2, 16


class Slider(VecEnv):
    """Two points on a table, pushed by two forces; observed are places in metres and speeds in decimetres a second."""

    def __init__(self) -> None:
        self.num_envs, self.num_actions, self.device, self.cfg = WORLDS, ACTIONS, "cpu", {}
        self.max_episode_length = 50
        self.episode_length_buf = torch.zeros(WORLDS, dtype=torch.long)
        self.generator = torch.Generator().manual_seed(0)
        self.place = torch.rand(WORLDS, 2, generator=self.generator) * 2 - 1
        self.speed = torch.zeros(WORLDS, 2)

    def get_observations(self) -> TensorDict:
        observed = torch.cat([self.place + 3, 10 * self.speed], dim=-1)
        return TensorDict({"policy": observed}, batch_size=[WORLDS])

    def step(self, actions: torch.Tensor):
        self.speed = 0.9 * self.speed + 0.1 * actions.clamp(-1, 1)
        self.place = self.place + 0.1 * self.speed
        self.episode_length_buf += 1
        dones = self.episode_length_buf >= self.max_episode_length
        self.place[dones] = torch.rand(int(dones.sum()), 2, generator=self.generator) * 2 - 1
        self.episode_length_buf[dones] = 0
        reward = -(self.place**2).sum(-1)
        return self.get_observations(), reward, dones.long(), {"time_outs": dones}


def model(rnn: str | None, hidden: tuple[int, ...], activation: str, std: str | None) -> dict:
    """Settings of one network."""
    settings = {
        "class_name": "MLPModel",
        "hidden_dims": list(hidden),
        "activation": activation,
        "obs_normalization": True,
    }
    if std:
        settings["distribution_cfg"] = {"class_name": "GaussianDistribution", "init_std": 0.5, "std_type": std}
    if rnn:
        settings |= {"class_name": "RNNModel", "rnn_type": rnn, "rnn_hidden_dim": 6, "rnn_num_layers": 1}
    return settings


def ppo(rnn: str | None = None, activation: str = "elu", std: str = "scalar") -> dict:
    """Settings of a run of PPO."""
    return {
        "num_steps_per_env": 16,
        "save_interval": 1000,
        "obs_groups": {"actor": ["policy"], "critic": ["policy"]},
        "actor": model(rnn, (8, 6), activation, std),
        "critic": model(rnn, (8,), activation, None),
        "algorithm": {"class_name": "PPO", "num_learning_epochs": 2, "num_mini_batches": 2},
    }


def answers(policy, recurrent: bool) -> tuple[np.ndarray, np.ndarray]:
    """1,000 observations, and the policy's greedy actions."""
    rng = np.random.default_rng(1)
    # Of half precision, so that the files are small.
    observations = rng.normal([3, 3, 0, 0], [1, 1, 3, 3], (1000, OBSERVED)).astype(np.float16).astype(np.float32)
    with torch.inference_mode():
        if not recurrent:
            actions = policy(TensorDict({"policy": torch.from_numpy(observations)}, batch_size=[1000])).numpy()
            return observations, actions
        policy.reset()
        steps = []
        for step in observations.reshape(100, 10, OBSERVED):
            steps.append(policy(TensorDict({"policy": torch.from_numpy(step)}, batch_size=[10])).numpy())
    return observations, np.concatenate(steps)


def write(runner, out: Path, recurrent: bool) -> None:
    runner.save(str(out.with_suffix(".pt")))
    policy = runner.get_inference_policy("cpu")
    observations, actions = answers(policy, recurrent)
    np.savez_compressed(
        out.with_name(f"{out.name}_answers.npz"), observations=observations.astype(np.float16), actions=actions
    )


def main(out: Path) -> None:
    """Write all."""
    out.mkdir(parents=True, exist_ok=True)
    cases = {"mlp": ppo(), "lstm": ppo("lstm"), "gru": ppo("gru"), "tanh": ppo(activation="tanh", std="log")}
    for name, settings in cases.items():
        torch.manual_seed(0)
        runner = OnPolicyRunner(Slider(), settings, log_dir=None, device="cpu")
        runner.learn(3)
        write(runner, out / f"model_{name}", name in ("lstm", "gru"))
        if name == "mlp":
            runner.export_policy_to_jit(str(out), "policy_jit.pt")
    torch.manual_seed(0)
    distilled = {
        "num_steps_per_env": 16,
        "save_interval": 1000,
        "obs_groups": {"student": ["policy"], "teacher": ["policy"]},
        "student": model(None, (6,), "elu", "scalar"),
        "teacher": model(None, (8, 6), "elu", "scalar"),
        "algorithm": {"class_name": "Distillation", "num_learning_epochs": 2, "gradient_length": 8},
    }
    runner = DistillationRunner(Slider(), distilled, log_dir=None, device="cpu")
    runner.load(str(out / "model_mlp.pt"))
    runner.learn(3)
    write(runner, out / "model_student", recurrent=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
