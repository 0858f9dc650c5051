"""One teacher from whatever names it: the first plug-in that accepts the source reads it."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from kd_agent import plugins
from kd_agent.environments import Recipe, recipe_of
from kd_agent.environments.own_wrappers import NO_WRAPPERS, TypedWrappers
from kd_agent.errors import KDError, unknown
from kd_agent.networks import Teacher
from kd_agent.teachers._checkpoint import refusal
from kd_agent.teachers._layout import ASSUMED, SQUASHES
from kd_agent.teachers._request import Request, Spaces

Source = str | os.PathLike[str] | Callable[[Any], Any] | BaseAlgorithm
"""What names a teacher."""
_LIBRARIES = "rsl_rl, skrl, rl_games, CleanRL, imitation, TorchScript, Flax or Brax"
"""Whose files of weights are read."""


def load_teacher(
    source: Source,
    *,
    env: Spaces | None = None,
    statistics: str | None = None,
    allow_missing_statistics: bool = False,
    trust_teacher: bool = False,
    onnx_output: str | None = None,
    teacher_activation: str | None = None,
    teacher_squash: str | None = None,
) -> Teacher:
    """Load a teacher from whatever names it.

    Args:
        source: Path of a Stable-Baselines3 zip, of an RL Zoo folder, of a saved student, of an ONNX file, of a
            LEAPP graph, of recorded data, or of a checkpoint of rsl_rl, skrl, rl_games, CleanRL, imitation,
            TorchScript, Flax or Brax; the `minari:ID` of a dataset; an agent of Stable-Baselines3 (a model, its
            policy, or the `predict` of either); or a Python callable or torch module from observations `[B, *O]`
            to head parameters or actions.
        env: Observation and action space of the environment that it must fit.
        statistics: A file of VecNormalize statistics; default: looked for beside the source.
        allow_missing_statistics: Go on where statistics are needed but lost.
        trust_teacher: Let Stable-Baselines3 load a zip that is not understood, which runs the code in it.
        onnx_output: Name of the output of an ONNX file that answers; default: the one that fits.
        teacher_activation: Activation between the layers of a file that holds weights alone; default: its library's.
        teacher_squash: How the continuous actions of such a file are bounded: "tanh" (through tanh, scaled to the
            Box), "clip" (clipped to [-1, 1], scaled to the Box) or "none"; default: its library's.

    Raises:
        KDError: Nothing reads `source`, or what does finds it damaged or unfit.
    """
    source = _plain(source)
    request = Request(
        env, statistics, allow_missing_statistics, trust_teacher, onnx_output, teacher_activation, teacher_squash
    )
    try:
        plugin = _plugin(source)
        _check_assumptions(plugin, request)
        teacher: Teacher = plugin.load(source, request)
    except KDError as error:
        # A zip inside a folder names itself; a reader deep down does not always.
        if not isinstance(source, str) or source in str(error):
            raise error from None
        raise KDError(f"{source}: {error}") from None
    return teacher


def recipe_for(
    source: Source,
    env: str,
    env_kwargs: Mapping[str, Any],
    typed: TypedWrappers = NO_WRAPPERS,
) -> Recipe:
    """The environment that a teacher plays in, before it is loaded.

    Args:
        source: As for `load_teacher`.
        env: The id asked for.
        env_kwargs: Keyword arguments asked for; they win over those found with the teacher.
        typed: Wrappers asked for; those found with the teacher run their code only where they are among them.

    Raises:
        KDError: There is no such environment, or the teacher's wrappers are not known here.
    """
    source = _plain(source)
    plugin = _plugin(source)
    # Only what carries RL Zoo's settings knows more of its environment than the caller.
    if not hasattr(plugin, "recipe"):
        return typed.around(recipe_of(env, env_kwargs))
    recipe: Recipe = plugin.recipe(source, env, env_kwargs, typed)
    return recipe


def _plain(source: Any) -> Any:
    """A path as text, anything else as it is."""
    return os.fspath(source) if isinstance(source, os.PathLike) else source


def _plugin(source: Any) -> Any:
    """The plug-in that reads a source."""
    for name in plugins.names("teachers"):
        plugin = plugins.load("teachers", name)
        if plugin.accepts(source):
            return plugin
    refused = refusal(source, _LIBRARIES) if isinstance(source, str) else None
    raise refused or KDError(
        f"{source}: not a teacher; expected a Stable-Baselines3 .zip, an RL Zoo folder, a student's .safetensors, "
        "an .onnx file, a LEAPP graph (.yaml), recorded data (.npz, minari:ID), or a .pt, .pth, "
        ".cleanrl_model, .msgpack or .safetensors of "
        f"{_LIBRARIES}"
    )


def _check_assumptions(plugin: Any, request: Request) -> None:
    """Refuse what the caller says of a network where the source says it itself, or what is nothing to say."""
    if request.teacher_squash not in (None, *SQUASHES):
        raise unknown("teacher_squash", request.teacher_squash, SQUASHES)
    taken = getattr(plugin, "ASSUMED", ())
    for name in ASSUMED:
        if getattr(request, name) is not None and name not in taken:
            flag = f"--{name.replace('_', '-')}"
            raise KDError(f"says by itself what {flag} would say; that is for files of weights alone")
