"""From an id to a guarded vector environment."""

from kd_agent.environments.recipe import (
    TIME_FEATURE,
    ZERO_FORCES,
    Recipe,
    recipe_of,
    recipe_of_student,
    recorded_id,
    resolve_id,
    versions,
)
from kd_agent.environments.spaces import (
    as_mapping,
    as_policies_act,
    as_sb3_acts,
    check_same,
    flattening,
    is_image,
    observation_specs,
    select,
)

__all__ = [
    "TIME_FEATURE",
    "ZERO_FORCES",
    "Recipe",
    "as_mapping",
    "as_policies_act",
    "as_sb3_acts",
    "check_same",
    "flattening",
    "is_image",
    "observation_specs",
    "recipe_of",
    "recipe_of_student",
    "recorded_id",
    "resolve_id",
    "select",
    "versions",
]
