"""Wrappers that are typed, `module:Class`: their code runs because somebody typed it, and for no other reason."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kd_agent.environments.recipe import Recipe
from kd_agent.environments.wrappers import canonical
from kd_agent.errors import KDError
from kd_agent.settings import check_arguments, read_arguments

Wrapper = tuple[str, Mapping[str, Any]]
"""A wrapper's name and its keyword arguments."""
_TYPED = re.compile(r"([A-Za-z_]\w*(?:\.\w+)*:[A-Za-z_]\w*)((?:,[A-Za-z_]\w*=.*)?)")
_ARGUMENT = re.compile(r",(?=[A-Za-z_]\w*=)")
_FRAME_STACK = "VecFrameStack"


@dataclass(frozen=True)
class TypedWrappers:
    """What was typed of wrappers.

    Attributes:
        shared: Of `--wrapper`: around the environment, the innermost first.
        teachers: Of `--teacher-wrapper`: around that, for the teacher's eyes alone.
    """

    shared: tuple[str, ...] = ()
    teachers: tuple[str, ...] = ()

    def around(self, recipe: Recipe) -> Recipe:
        """The recipe with what was typed around it; what it names already is allowed, and not put around it again.

        Raises:
            KDError: A word is no wrapper, or differs from what the recipe has of it.
        """
        named = dict(recipe.wrappers)
        wrappers = list(recipe.wrappers)
        frames = recipe.frame_stack
        for word in self.shared:
            name, kwargs = _read(word)
            if name.rpartition(".")[2] == _FRAME_STACK:
                frames = _frames(kwargs, word)
            elif name not in named:
                wrappers.append((name, kwargs))
            elif kwargs and kwargs != named[name]:
                raise KDError(f"--wrapper {word}: it is there already, with {dict(named[name])}; type the name alone")
            elif not kwargs:
                # What a file hands to a class that was typed must not name more code.
                check_arguments(named[name], recipe.env_id, f"--wrapper {word}")
        seen = tuple(map(_read, self.teachers))
        allowed = recipe.allowed | {name for name, _ in (*map(_read, self.shared), *seen)}
        return replace(
            recipe,
            wrappers=tuple(wrappers),
            frame_stack=frames,
            teacher_wrappers=(*recipe.teacher_wrappers, *seen),
            allowed=frozenset(allowed),
        )


NO_WRAPPERS = TypedWrappers()
"""Nothing was typed."""


def _read(word: str) -> Wrapper:
    """Name and keyword arguments of `module:Class` or `module:Class,NAME=VALUE,...`."""
    match = _TYPED.fullmatch(word)
    if not match:
        raise KDError(f"wrapper {word!r} is none; expected module:Class, or module:Class,NAME=VALUE for its arguments")
    arguments = read_arguments(_ARGUMENT.split(match.group(2))[1:], f"wrapper {word!r}")
    return canonical(match.group(1)), arguments


def _frames(kwargs: Mapping[str, Any], word: str) -> int:
    frames = kwargs.get("n_stack")
    if set(kwargs) != {"n_stack"} or not isinstance(frames, int) or not 0 < frames <= 64:
        raise KDError(f"wrapper {word!r}: expected {_FRAME_STACK},n_stack=N, a small whole number")
    return frames
