"""One teacher from whatever names it: the first plug-in that accepts the source reads it."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from kd_agent import plugins
from kd_agent.environments import Recipe, recipe_of
from kd_agent.environments.own_wrappers import NO_WRAPPERS, TypedWrappers
from kd_agent.errors import KDError
from kd_agent.networks import Teacher
from kd_agent.teachers._request import Request, Spaces

Source = str | os.PathLike[str] | Callable[[Any], Any] | BaseAlgorithm
"""What names a teacher."""


def load_teacher(
    source: Source,
    *,
    env: Spaces | None = None,
    statistics: str | None = None,
    allow_missing_statistics: bool = False,
    trust_teacher: bool = False,
    onnx_output: str | None = None,
) -> Teacher:
    """Load a teacher from whatever names it.

    Args:
        source: Path of a Stable-Baselines3 zip, of an RL Zoo folder, of a saved student, of an ONNX file or of a
            LEAPP graph; an agent of Stable-Baselines3 (a model, its policy, or the `predict` of either); or a Python
            callable or torch module from observations `[B, *O]` to head parameters or actions.
        env: Observation and action space of the environment that it must fit.
        statistics: A file of VecNormalize statistics; default: looked for beside the source.
        allow_missing_statistics: Go on where statistics are needed but lost.
        trust_teacher: Let Stable-Baselines3 load a zip that is not understood, which runs the code in it.
        onnx_output: Name of the output of an ONNX file that answers; default: the one that fits.

    Raises:
        KDError: Nothing reads `source`, or what does finds it damaged or unfit.
    """
    source = _plain(source)
    request = Request(env, statistics, allow_missing_statistics, trust_teacher, onnx_output)
    try:
        teacher: Teacher = _plugin(source).load(source, request)
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
    raise KDError(
        f"{source}: not a teacher; expected a Stable-Baselines3 .zip, an RL Zoo folder, "
        "a student's .safetensors, an .onnx file or a LEAPP graph (.yaml)"
    )
