"""What torch adds to a policy: densities, gradients, and the faces of teachers and students."""

from kd_agent.networks.base import (
    ACTIVATION_LAYERS,
    LAYER,
    Layers,
    Observations,
    Origin,
    PolicyOutput,
    State,
    Student,
    Teacher,
)
from kd_agent.networks.distributions import LOG_STD_MAX, LOG_STD_MIN, ActionHead, Softening, head_for
from kd_agent.networks.fits import check_fits
from kd_agent.networks.graph_student import GraphStudent

__all__ = [
    "ACTIVATION_LAYERS",
    "LAYER",
    "LOG_STD_MAX",
    "LOG_STD_MIN",
    "ActionHead",
    "GraphStudent",
    "Layers",
    "Observations",
    "Origin",
    "PolicyOutput",
    "Softening",
    "State",
    "Student",
    "Teacher",
    "check_fits",
    "head_for",
]
