"""Teachers: anything that can label observations. Each plug-in says which sources it accepts."""

from typing import Any

import gymnasium as gym

from kd_agent import plugins
from kd_agent.errors import KDError
from kd_agent.policy import Teacher


def load_teacher(
    source: str,
    *,
    env: tuple[gym.Space[Any], gym.Space[Any]] | None = None,
    statistics: str | None = None,
    allow_missing_statistics: bool = False,
) -> Teacher:
    """Load a teacher from whatever names it.

    Args:
        source: Path of a Stable-Baselines3 zip or of a saved student.
        env: Observation and action space of the environment that it must fit.
        statistics: A file of VecNormalize statistics; default: looked for beside the source.
        allow_missing_statistics: Go on where statistics are needed but lost.

    Raises:
        KDError: Nothing reads `source`, or what does finds it damaged or unfit.
    """
    for name in plugins.names("teachers"):
        plugin = plugins.load("teachers", name)
        if plugin.accepts(source):
            try:
                teacher: Teacher = plugin.load(
                    source, env=env, statistics=statistics, allow_missing_statistics=allow_missing_statistics
                )
            except KDError as error:
                raise KDError(str(error) if source in str(error) else f"{source}: {error}") from None
            return teacher
    raise KDError(f"{source}: not a teacher; expected a Stable-Baselines3 .zip or a student's .safetensors")
