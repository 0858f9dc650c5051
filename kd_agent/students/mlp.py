"""MLP student: normalise, then linear layers with an activation between them (none: linear)."""

from kd_agent.students._trunk import Trunk


class MLP(Trunk):
    """A multilayer perceptron over all observation keys, side by side."""


build = MLP
