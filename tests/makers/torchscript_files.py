"""Write policies as TorchScript, and what they answer: `python tests/makers/torchscript_files.py OUT`.

Made with torch 2.13.0 and numpy 2.4.6: modules of our own, by `torch.jit.script` and `torch.jit.trace`. Beside each
`.pt` lie 1,000 observations and the greedy actions, by the module itself. rsl_rl's own export is written by
`rsl_rl_files.py`.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn


class Normal(nn.Module):
    """A normaliser, and a perceptron of the activations that are named."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([[0.5, -0.2, 1.0]]))
        self.register_buffer("std", torch.tensor([[1.5, 0.4, 3.0]]))
        self.net = nn.Sequential(nn.Linear(3, 8), activation, nn.Dropout(0.1), nn.Linear(8, 6), activation)
        self.head = nn.Linear(6, 1, bias=False)

    def forward(self, x):
        x = torch.clamp((x - self.mean) / (self.std + 0.01), -4.0, 4.0)
        return 2.0 * torch.tanh(self.head(self.net(x)))


class Choice(nn.Module):
    """A choice by functions, not modules; some write into their input."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(6, 2)

    def forward(self, x):
        x = nn.functional.leaky_relu(self.one(x), 0.2)
        x = nn.functional.relu(self.two(x), inplace=True)
        return self.three(x).argmax(dim=-1)


def main(out: Path) -> None:
    """Write all."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    modules = {"elu": Normal(nn.ELU()), "silu": Normal(nn.SiLU()), "gelu": Normal(nn.GELU()), "choice": Choice()}
    for name, module in modules.items():
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.6)
        module.eval()
        size = 4 if name == "choice" else 3
        # Of half precision, so that the files are small.
        observations = np.random.default_rng(1).normal(0, 1.5, (1000, size)).astype(np.float16)
        batch = torch.from_numpy(observations.astype(np.float32))
        traced = torch.jit.trace(module, batch[:1]) if name in ("silu", "choice") else torch.jit.script(module)
        traced.save(str(out / f"{name}.pt"))
        with torch.no_grad():
            actions = module(batch).numpy()
        np.savez_compressed(out / f"{name}_answers.npz", observations=observations, actions=actions)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
