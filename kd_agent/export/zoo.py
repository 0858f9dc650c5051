"""RL Zoo: a folder of trained agents that `rl_zoo3`'s own `enjoy` plays, and whatever else of it reads its logs.

    FOLDER/ppo/LunarLander-v3_1/LunarLander-v3.zip                  the agent, as the format sb3 writes it
    FOLDER/ppo/LunarLander-v3_1/LunarLander-v3/vecnormalize.pkl     its statistics, where it has any
    FOLDER/ppo/LunarLander-v3_1/LunarLander-v3/config.yml           wrappers, frames, normalisation
    FOLDER/ppo/LunarLander-v3_1/LunarLander-v3/args.yml             the environment and its arguments

A folder may hold other runs: the new one gets the next free number, as in RL Zoo, which plays the latest.
"""

import re
import tempfile
from pathlib import Path
from typing import Any

import yaml

from kd_agent.errors import KDError
from kd_agent.export import sb3
from kd_agent.policies import PolicyGraph
from kd_agent.policies.safe_files import write_atomically

SUFFIX = ".zoo"
OPS = sb3.OPS
_ALGORITHM = "ppo"


def write(graph: PolicyGraph, path: Path) -> list[Path]:
    """Write a run into the folder.

    Args:
        graph: The policy: what PPO can be, see the format sb3.
        path: The folder, which may be there.

    Returns:
        The run's folder: it alone is this policy, whatever else lies beside it.

    Raises:
        KDError: PPO has no such policy, it plays with action masks, or it does not say what its environment is.
    """
    if graph.head.expects_masks:
        raise KDError("RL Zoo plays no MaskablePPO; formats that keep action masks: sb3, onnx, c, javascript, torch")
    # Late, because environments bring Gymnasium.
    from kd_agent.environments import Recipe, recipe_of_student

    try:
        recipe = recipe_of_student(graph, "the policy")
    except KDError:
        # It is written also where its environment is not installed.
        if not graph.provenance.get("env"):
            raise
        recipe = Recipe(str(graph.provenance["env"]))
    # RL Zoo's own way of making a file's name of an id.
    name = recipe.env_id.replace("/", "-")
    # RL Zoo normalises before it stacks frames: statistics of stacked ones have no place in it, and are folded in.
    has_statistics = recipe.frame_stack == 1 and any(op.kind == "normalise" for op in graph.ops)
    files = {"config.yml": _yaml(_config(recipe, normalised=has_statistics)), "args.yml": _yaml(_arguments(recipe))}
    # Elsewhere first: what PPO cannot be leaves no empty run behind.
    with tempfile.TemporaryDirectory() as folder:
        agent, *statistics = sb3.write(graph, Path(folder) / f"{name}.zip", vecnormalize=has_statistics)
        zipped = agent.read_bytes()
        files |= {file.name: file.read_bytes() for file in statistics}
    run = _next_run(path / _ALGORITHM, name)
    (run / name).mkdir(parents=True)
    for file, content in files.items():
        write_atomically(run / name / file, content)
    # Last: a run without its zip is none.
    write_atomically(run / agent.name, zipped)
    return [run]


def _next_run(folder: Path, name: str) -> Path:
    """A run folder that is not there yet, numbered from 1 on."""
    taken = [0]
    for other in folder.glob(f"{name}_*"):
        number = re.fullmatch(rf"{re.escape(name)}_(\d+)", other.name)
        if number:
            taken.append(int(number.group(1)))
    return folder / f"{name}_{max(taken) + 1}"


def _config(recipe: Any, *, normalised: bool) -> dict[str, Any]:
    """The hyperparameters that decide what the agent sees."""
    config: dict[str, Any] = {"policy": "MlpPolicy", "normalize": normalised}
    if normalised:
        config["normalize_kwargs"] = {"norm_obs": True, "norm_reward": False}
    if recipe.wrappers:
        config["env_wrapper"] = [{name: dict(kwargs)} if kwargs else name for name, kwargs in recipe.wrappers]
    if recipe.frame_stack > 1:
        config["frame_stack"] = recipe.frame_stack
    return config


def _arguments(recipe: Any) -> dict[str, Any]:
    """What would have been typed to train it."""
    env_kwargs = dict(recipe.env_kwargs)
    # RL Zoo hands them to `gymnasium.make`, whose own word for the limit this is.
    if recipe.max_episode_steps:
        env_kwargs["max_episode_steps"] = recipe.max_episode_steps
    return {"algo": _ALGORITHM, "env": recipe.env_id, "env_kwargs": env_kwargs or None}


def _yaml(content: dict[str, Any]) -> bytes:
    return yaml.safe_dump(content, sort_keys=False).encode()
