"""Whether a layout is that of one network, and of the environment's kind of actions."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import gymnasium as gym

from kd_agent.errors import KDError
from kd_agent.policies import Array, HeadSpec
from kd_agent.teachers._layout import Layout


def check_chain(layout: Layout, weight: Callable[[str], Array], source: str) -> None:
    """Hold each layer against the one before it: in the order of a file they need not follow one another.

    Args:
        layout: Where the file keeps its layers.
        weight: A layer's weight `[out, in]`, by its name.
        source: The file.

    Raises:
        KDError: A layer takes more or fewer numbers than it is given.
    """
    pairs = list(pairwise(layout.hidden))
    if layout.hidden and (layout.memory is None or layout.memory_first):
        pairs += [(layout.hidden[-1], name) for name in layout.answer]
    for before, after in pairs:
        given, taken = len(weight(before)), weight(after).shape[1]
        if given != taken:
            raise KDError(
                f"{source}: its layer {after!r} takes {taken} numbers, and {before!r} before it gives {given}"
            )


def check_kind(layout: Layout, head: HeadSpec, space: gym.Space[Any], source: str) -> None:
    """Refuse logits as means and means as logits, though there may be as many of them.

    Args:
        layout: What the file tells of its actions.
        head: That of the environment's actions.
        space: The environment's actions.
        source: The file.

    Raises:
        KDError: They are of another kind.
    """
    if layout.continuous is not None and layout.continuous != head.is_gaussian:
        kind = "numbers of a Box" if layout.continuous else "choices"
        raise KDError(f"{source}: its actions are {kind}, the environment takes {space}")
