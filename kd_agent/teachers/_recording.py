"""A recording: states that somebody visited, and what was done or said in each.

Letters: `S` states, `E` episodes, `P` head parameters, `*A` shape of an action, `*O` shape of an observation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import gymnasium as gym
import numpy as np

from kd_agent.errors import KDError
from kd_agent.policies import Array, HeadSpec
from kd_agent.teachers._density import to_params

HELD_OUT = 0.2
"""Share of the episodes that no fit sees."""
MOST_HELD_OUT = 32
"""Episodes held out at most: more would say little more of a student, and teach it nothing."""
MAX_BYTES = 1 << 30
"""Bytes of a recording, as a file, unpacked and as labels: ten million states of 20 numbers, or 37,000 images."""
FEWEST_EPISODES = 4
"""A recording of fewer is cut into pieces: too little could be held out to say how far the figures can be trusted."""
_PIECES = 10
"""The pieces; a recording has at least as many states."""


@dataclass(frozen=True)
class Steps:
    """What a file holds, before anything is held against an action space.

    Attributes:
        observations: `[S, *O]` by key.
        actions: What was done, `[S, *A]`; None: that is not told.
        params: Distributions, `[S, P]`; None: those are not told.
        rewards: `[S]`; None: not told.
        starts: Where an episode begins, `[S]`.
        ended: Where an episode came to its end, `[S]`.
        others: Where somebody else than the teacher acted, `[S]`; None: nowhere.
        spaces: Observation and action space, as the file says or as they were inferred.
        squashed: Whether the distributions are Gaussians that go through tanh.
        notes: What a reader has to know of it, a line each.
    """

    observations: Mapping[str, Array]
    actions: Array | None
    params: Array | None
    rewards: Array | None
    starts: Array
    ended: Array
    others: Array | None
    spaces: tuple[gym.Space[Any], gym.Space[Any]]
    squashed: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recording:
    """States in the order in which they were visited, each with its label.

    Attributes:
        observations: `[S, *O]` by key, floats as float32.
        params: Labels `[S, P]`, float32.
        starts: Where an episode begins, `[S]`.
        returns: Of the episodes that are whole and that the teacher played, in their order.
        labels: What the labels were made of, "actions" or "distributions".
        notes: What a reader has to know of it, a line each.
    """

    observations: Mapping[str, Array]
    params: Array
    starts: Array
    returns: tuple[float, ...]
    labels: str
    notes: tuple[str, ...] = ()

    @cached_property
    def episode(self) -> Array:
        """Number of each state's episode, `[S]`, from 0."""
        return np.cumsum(self.starts) - 1

    @property
    def episodes(self) -> int:
        """How many episodes there are, those cut short included."""
        return int(self.starts.sum())

    def held_out(self, seed: int) -> Array:
        """Which states no fit may see, `[S]`: those of some episodes, drawn at random.

        Args:
            seed: Of the draw.
        """
        # Two at least: of one, nobody could say how others differ from it.
        count = min(max(2, round(HELD_OUT * self.episodes)), MOST_HELD_OUT)
        drawn = np.random.default_rng(seed).permutation(self.episodes)[:count]
        return np.isin(self.episode, drawn)


def recording_of(steps: Steps, head: HeadSpec, where: str) -> Recording:
    """The recording that a file is, held against an action head.

    Args:
        steps: What the file holds.
        head: The head of the actions.
        where: The file, for messages.

    Raises:
        KDError: It is empty, or holds labels that the head has not.
    """
    states = len(steps.starts)
    if states < _PIECES:
        raise KDError(f"{where}: holds {states or 'no'} states; at least {_PIECES} are needed")
    told = steps.params if steps.params is not None else steps.actions
    if told is None:
        raise KDError(f"{where}: holds neither actions nor params, of which one is a label")
    if states * head.num_params * np.float32().nbytes > MAX_BYTES:
        raise KDError(
            f"{where}: labels of {states:,} states, {head.num_params:,} numbers each, take more than "
            f"{MAX_BYTES >> 20} MiB"
        )
    if steps.params is not None:
        params = _rows(steps.params, head, where)
    else:
        params = to_params(head, _in_bounds(told, head, where), states, where)
    starts, notes = _with_pieces(steps.starts)
    return Recording(
        steps.observations,
        params,
        starts,
        _returns(steps),
        "actions" if steps.params is None else "distributions",
        (*steps.notes, *notes),
    )


def _rows(params: Array, head: HeadSpec, where: str) -> Array:
    expected = (len(params), head.num_params)
    if params.shape != expected:
        raise KDError(f"{where}: params have shape {params.shape}, expected {expected} for a {head.kind} head")
    return np.ascontiguousarray(params, np.float32)


def _in_bounds(actions: Array, head: HeadSpec, where: str) -> Array:
    """The actions, if the space has them; categories are looked at where rows are made of them."""
    expected = (len(actions), *head.shape)
    if actions.shape != expected:
        # Some write the one number of an action with an axis of its own.
        if actions.size != np.prod(expected):
            raise KDError(f"{where}: actions have shape {actions.shape}, expected {expected}")
        actions = actions.reshape(expected)
    if not head.is_gaussian:
        whole = actions.astype(np.int64)
        if (whole != actions).any():
            raise KDError(f"{where}: actions of a {head.kind} head are whole numbers, and some of these are not")
        if head.kind == "bernoulli" and not np.isin(whole, (0, 1)).all():
            raise KDError(f"{where}: actions of a bernoulli head are 0 or 1, and some of these are not")
        return whole
    flat = actions.reshape(len(actions), -1)
    low, high = np.asarray(head.low), np.asarray(head.high)
    # As much as float32 may round.
    slack = 1e-5 * np.maximum(1, np.where(np.isfinite(high), np.abs(high), 1))
    outside = (flat < low - slack) | (flat > high + slack)
    if outside.any():
        step, part = np.argwhere(outside)[0]
        raise KDError(
            f"{where}: the action of step {step} is {flat[step, part]:g} in part {part}, outside the space's "
            f"{head.low[part]:g} to {head.high[part]:g}"
        )
    return np.asarray(actions, np.float32)


def _with_pieces(starts: Array) -> tuple[Array, tuple[str, ...]]:
    """Where episodes begin; a few are cut into pieces, of which some can be held out."""
    episodes = int(starts.sum())
    if episodes >= FEWEST_EPISODES:
        return starts, ()
    cut = starts.copy()
    cut[np.linspace(0, len(starts), _PIECES, endpoint=False).astype(int)] = True
    note = (
        f"note: the recording marks {episodes} episode{'s' * (episodes > 1)}; it is cut into {int(cut.sum())} pieces, "
        "and what is held out lies next to what is fitted: the held-out figures flatter"
    )
    return cut, (note,)


def _returns(steps: Steps) -> tuple[float, ...]:
    """Returns of the whole episodes that the teacher played."""
    if steps.rewards is None:
        return ()
    first = np.flatnonzero(steps.starts)
    last = np.append(first[1:], len(steps.starts)) - 1
    sums = np.add.reduceat(np.asarray(steps.rewards, np.float64), first)
    whole = steps.ended[last]
    if steps.others is not None:
        whole &= ~np.logical_or.reduceat(steps.others, first)
    return tuple(map(float, sums[whole]))


def count_states(observations: Mapping[str, Array], others: Sequence[tuple[str, Array | None]], where: str) -> int:
    """How many states there are: the same number in every array, each of finite numbers.

    Args:
        observations: `[S, *O]` by key.
        others: Names and arrays `[S, ...]`; None: it is not there.
        where: The file, for messages.

    Raises:
        KDError: Two arrays differ in their length, or one holds something else.
    """
    named = [(f"observations {key!r}", array) for key, array in observations.items()]
    named += [(name, array) for name, array in others if array is not None]
    for name, array in named:
        if not array.ndim:
            raise KDError(f"{where}: {name} are a single number, expected one a state")
        if array.dtype.kind not in "fiub":
            raise KDError(f"{where}: {name} are of type {array.dtype}, expected numbers")
        if 0 in array.shape[1:]:
            raise KDError(f"{where}: {name} have shape {array.shape}, which holds no number of a state")
    first, states = named[0][0], len(named[0][1])
    for name, array in named:
        if len(array) != states:
            raise KDError(f"{where}: {first} have {states} states, {name} {len(array)}")
        wrong = ~_fit_float32(array.reshape(states, int(np.prod(array.shape[1:])))).all(-1)
        if wrong.any():
            raise KDError(f"{where}: {name} hold NaN or infinity, first at step {int(wrong.argmax())}")
    return states


def _fit_float32(array: Array) -> Array:
    """Which numbers are finite, as float32 too."""
    with np.errstate(over="ignore"):
        return np.isfinite(array.astype(np.float32))


def one_a_state(array: Array, name: str, where: str) -> Array:
    """An array that has one number a state, `[S]`; some write it with an axis of its own.

    Args:
        array: `[S]` or `[S, 1]`.
        name: Its name, for messages.
        where: The file, for messages.

    Raises:
        KDError: It has another shape.
    """
    states = len(array)
    if array.shape not in ((states,), (states, 1)):
        raise KDError(f"{where}: {name} have shape {array.shape}, expected ({states},)")
    return array.reshape(states)
