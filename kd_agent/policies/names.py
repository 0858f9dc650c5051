"""What environments' documentation calls the numbers of an observation and the actions."""

import re

from kd_agent.policies.head import HeadSpec

NAMES: dict[str, tuple[str, ...]] = {
    "CartPole": ("cart position", "cart velocity", "pole angle", "pole angular velocity"),
    "Acrobot": (
        "cos of joint 1",
        "sin of joint 1",
        "cos of joint 2",
        "sin of joint 2",
        "angular velocity 1",
        "angular velocity 2",
    ),
    "MountainCar": ("position", "velocity"),
    "Pendulum": ("cos of angle", "sin of angle", "angular velocity"),
    "LunarLander": (
        "x",
        "y",
        "x velocity",
        "y velocity",
        "angle",
        "angular velocity",
        "left leg contact",
        "right leg contact",
    ),
    "BipedalWalker": (
        "hull angle",
        "hull angular velocity",
        "x velocity",
        "y velocity",
        "hip 1 angle",
        "hip 1 speed",
        "knee 1 angle",
        "knee 1 speed",
        "leg 1 contact",
        "hip 2 angle",
        "hip 2 speed",
        "knee 2 angle",
        "knee 2 speed",
        "leg 2 contact",
        *(f"lidar {beam}" for beam in range(1, 11)),
    ),
}
"""What Gymnasium's documentation calls the entries of an observation, by the environment's name."""
ACTIONS: dict[str, tuple[str, ...]] = {
    "CartPole": ("left", "right"),
    "Acrobot": ("torque -1", "no torque", "torque +1"),
    "MountainCar": ("left", "coast", "right"),
    "LunarLander": ("no engine", "left engine", "main engine", "right engine"),
    "LunarLanderContinuous": ("main engine", "lateral engine"),
    "MountainCarContinuous": ("force",),
    "Pendulum": ("torque",),
    "BipedalWalker": ("hip 1", "knee 1", "hip 2", "knee 2"),
}
"""What it calls the actions of a Discrete space, or the numbers of a Box."""
# Variants share their names; where one has another observation, its length tells (`number_names`).
_VARIANT = re.compile(r"(?:kd_envs/)?((\w+?)(?:Continuous|Hardcore|Drift|Pixels|Blind|NoVel)?)-v\d+")


def number_names(env_id: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Names of the numbers of an observation; none where no documentation is known that fits.

    Args:
        env_id: Gymnasium id.
        shape: Of the observation.
    """
    for name in _bases(env_id):
        known = NAMES.get(name, ())
        if known and shape == (len(known),):
            return known
    return ()


def known_actions(env_id: str, head: HeadSpec) -> tuple[str, ...]:
    """Names of the actions of a Discrete space, or of the numbers of another; none where none are known that fit.

    Args:
        env_id: Gymnasium id.
        head: Layout of the head.
    """
    count = head.num_acting
    for name in _bases(env_id):
        known = ACTIONS.get(name, ())
        if len(known) == count:
            return known
    return ()


def action_names(env_id: str, head: HeadSpec) -> list[str]:
    """Names of the actions of a categorical head (their numbers, where no other names are known).

    Args:
        env_id: Gymnasium id.
        head: Layout of the head.
    """
    known = known_actions(env_id, head)
    if known:
        return list(known)
    first = head.start[0]
    return list(map(str, range(first, first + head.num_params)))


def _bases(env_id: str) -> tuple[str, ...]:
    """An environment's name without its version, and that without its variant too; none where it has no version."""
    known = _VARIANT.fullmatch(env_id)
    return known.groups() if known else ()
