"""What `serve` can be told, as `settings`."""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from kd_agent.settings.types import STRICT, Keywords, Seed, Sources, StudentWrappers


@dataclass(frozen=True, config=STRICT)
class ServeConfig:
    """Serving saved students to a language-model agent; which code runs is told here, and by no tool call."""

    student: Annotated[Sources, Field(min_length=1, description="a saved student, *.safetensors, or several")]
    env: Annotated[
        str | None, Field(description="Gymnasium id to play and explain them in (default: each one's own)")
    ] = None
    env_kwargs: Annotated[Keywords, Field(description="the environment's keyword arguments, NAME=VALUE")] = Field(
        default_factory=dict
    )
    wrapper: StudentWrappers = ()
    seed: Annotated[Seed, Field(description="seed of the actions that sampled students draw")] = 0
    quiet: Annotated[bool, Field(description="print nothing but errors")] = False
