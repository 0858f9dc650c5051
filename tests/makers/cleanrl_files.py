"""Write models as CleanRL's scripts do, and what they answer: `python tests/makers/cleanrl_files.py OUT`.

CleanRL (MIT, Costa Huang and others) is no package but scripts of one file each. The modules below have the names and
the shapes of the tensors of its ppo.py, ppo_continuous_action.py, dqn.py, td3_continuous_action.py and
sac_continuous_action.py, in words of our own and smaller; what is saved is what those scripts save, by `torch.save`.
Made with torch 2.13.0 and numpy 2.4.6. Beside each `.cleanrl_model` lie 1,000 observations and the greedy actions.
"""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn


def tower(sizes: list[int], activation: type[nn.Module]) -> nn.Sequential:
    """Linear layers with an activation between them; no weight is near 0."""
    layers: list[nn.Module] = []
    for taken, given in pairwise(sizes):
        linear = nn.Linear(taken, given)
        nn.init.normal_(linear.weight, std=0.7)
        nn.init.normal_(linear.bias, std=0.3)
        layers += [linear, activation()]
    return nn.Sequential(*layers[:-1])


class Ppo(nn.Module):
    """Of ppo.py: CartPole-v1."""

    def __init__(self) -> None:
        super().__init__()
        self.critic = tower([4, 8, 6, 1], nn.Tanh)
        self.actor = tower([4, 8, 6, 2], nn.Tanh)

    def greedy(self, observations: torch.Tensor) -> torch.Tensor:
        return self.actor(observations).argmax(-1)


class PpoContinuous(nn.Module):
    """Of ppo_continuous_action.py: Pendulum-v1, its observations normalised by a wrapper that is not saved."""

    def __init__(self) -> None:
        super().__init__()
        self.critic = tower([3, 8, 6, 1], nn.Tanh)
        self.actor_mean = tower([3, 8, 6, 1], nn.Tanh)
        self.actor_logstd = nn.Parameter(torch.full((1, 1), -0.5))

    def greedy(self, observations: torch.Tensor) -> torch.Tensor:
        return self.actor_mean(observations)


class Dqn(nn.Module):
    """Of dqn.py: CartPole-v1."""

    def __init__(self) -> None:
        super().__init__()
        self.network = tower([4, 12, 8, 2], nn.ReLU)

    def greedy(self, observations: torch.Tensor) -> torch.Tensor:
        return self.network(observations).argmax(-1)


class Td3(nn.Module):
    """Of td3_continuous_action.py: Pendulum-v1."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc_mu = nn.Linear(3, 8), nn.Linear(8, 8), nn.Linear(8, 1)
        self.register_buffer("action_scale", torch.tensor([2.0]))
        self.register_buffer("action_bias", torch.tensor([0.0]))

    def greedy(self, observations: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.fc2(torch.relu(self.fc1(observations))))
        return torch.tanh(self.fc_mu(hidden)) * self.action_scale + self.action_bias


class Sac(nn.Module):
    """Of sac_continuous_action.py: Pendulum-v1."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(3, 8), nn.Linear(8, 8)
        self.fc_mean, self.fc_logstd = nn.Linear(8, 1), nn.Linear(8, 1)
        self.register_buffer("action_scale", torch.tensor([2.0]))
        self.register_buffer("action_bias", torch.tensor([0.0]))

    def greedy(self, observations: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.fc2(torch.relu(self.fc1(observations))))
        return torch.tanh(self.fc_mean(hidden)) * self.action_scale + self.action_bias

    def log_std(self, observations: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.fc2(torch.relu(self.fc1(observations))))
        return -5 + 0.5 * (2 + 5) * (torch.tanh(self.fc_logstd(hidden)) + 1)


def main(out: Path) -> None:
    """Write all."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    critic = tower([4, 8, 1], nn.ReLU).state_dict()
    for model in (Ppo(), PpoContinuous(), Dqn(), Td3(), Sac()):
        name = type(model).__name__.lower()
        # TD3's script saves the actor and both critics as a tuple.
        saved = (model.state_dict(), critic, critic) if name == "td3" else model.state_dict()
        torch.save(saved, out / f"{name}.cleanrl_model")
        size = 4 if name in ("ppo", "dqn") else 3
        # Of half precision, so that the files are small.
        observations = np.random.default_rng(1).normal(0, 1.5, (1000, size)).astype(np.float16)
        batch = torch.from_numpy(observations.astype(np.float32))
        with torch.no_grad():
            answers = {"actions": model.greedy(batch).numpy()}
            if name == "sac":
                answers["log_std"] = model.log_std(batch).numpy()
        np.savez_compressed(out / f"{name}_answers.npz", observations=observations, **answers)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
