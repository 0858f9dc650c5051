"""Stable-Baselines3: a PPO zip that `PPO.load`, `evaluate_policy` and RL Zoo open, and `.learn()` fine-tunes.

A policy that plays with action masks becomes a zip of sb3_contrib's MaskablePPO. One that is played by samples is drawn
from by `predict` as it is, whose `deterministic` is False by default there (`evaluate_policy`'s is True).
The student becomes the actor; the critic is new. What it sees it reads as Stable-Baselines3's own extractors do where
they can: vectors flat, categories one-hot, side by side. Anything else before its hidden layers, convolutions say, goes
into the zip as `kd_agent.networks.sb3_features.ProgramFeatures`, exact with its normaliser, and who loads such a zip
needs kd_agent.

Before Stable-Baselines3's own extractors a normaliser is folded into the first layer by default, so that the zip acts
alone: the actions are the student's wherever no feature is beyond its clip (10 standard deviations), where folding is
exact but for rounding. With `vecnormalize=True` the layers stay as they are and the statistics go to `vecnormalize.pkl`
beside the zip, exact everywhere, but useless to whoever forgets that file. It has the name that everybody looks for, so
a folder holds one: another export's is never written over.
"""

from pathlib import Path
from typing import Any

from kd_agent.policies import PolicyGraph
from kd_agent.policies.safe_files import write_atomically

SUFFIX = ".zip"
OPS = frozenset(
    {
        "activation",
        "append",
        "concatenate",
        "conv2d",
        "flatten",
        "linear",
        "normalise",
        "one_hot",
        "scale",
        "slice",
        "transpose",
    }
)


def write(graph: PolicyGraph, path: Path, *, vecnormalize: bool = False) -> list[Path]:
    """Write the zip, which states the spaces of the policy's own environment where that is registered.

    Args:
        graph: The policy, which ends in a linear layer.
        path: The file.
        vecnormalize: Write the statistics to `vecnormalize.pkl` instead of folding them in.

    Raises:
        KDError: PPO has no such policy, the environment has other spaces, or other statistics lie beside the zip.
    """
    # Late, for it brings torch: whoever loads the exports for another format need not have it.
    from kd_agent.export._sb3_zip import build

    model, statistics = build(graph, path, vecnormalize=vecnormalize)
    # Stable-Baselines3 appends `.zip` to names without it, and writes in place.
    temporary = path.with_name(f".{path.name}.part.zip")
    model.save(temporary)
    write_atomically(path, temporary.read_bytes())
    temporary.unlink()
    return [path, *statistics]


def spaces(graph: PolicyGraph) -> tuple[Any, Any]:
    """Observation and action space that a zip is for: those of the policy's environment, else as the policy tells them.

    Args:
        graph: The policy.

    Raises:
        KDError: The environment has other keys, or Stable-Baselines3 has no such actions.
    """
    from kd_agent.export._sb3_zip import spaces_of_policy

    return spaces_of_policy(graph)
