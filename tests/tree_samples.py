"""Small trees: fitted to a few states, or written down."""

from typing import Any

import numpy as np
from gymnasium.spaces import Discrete

from kd_agent.learners import tree as learner
from kd_agent.losses import Objective
from kd_agent.networks.distributions import ActionHead, head_for
from kd_agent.policies.graph import ObservationSpec, Op, PolicyGraph
from kd_agent.rollouts import Rollout
from kd_agent.students.tree import Tree

KL = Objective({"kl": 1.0})
TWO = head_for(Discrete(2))


def rollout_of(x: Any, params: Any, weight: Any = 1.0) -> Rollout:
    """States `[S, F]` and rows `[S, P]` as one step."""
    x, params = np.float32(x)[None], np.float32(params)[None]
    one = np.ones(x.shape[:2], np.float32)
    return Rollout({"obs": x}, params, one.astype(np.int8), one, one > 0, one * np.float32(weight))


def fitted(x: Any, params: Any, head: ActionHead = TWO, leaves: int = 64, objective: Objective = KL) -> Tree:
    """A tree that learnt the rows `[S, P]` of states `[S, F]`."""
    student = Tree({"obs": ObservationSpec((np.shape(x)[1],), "float32")}, head, {}, leaves=leaves)
    learner.fit(student, [rollout_of(x, params)], objective)
    return student


def small_graph() -> PolicyGraph:
    """A tree of three leaves over two numbers."""
    tensors = {
        "feature": np.int32([1, 0]),
        "threshold": np.float32([0.1, -2]),
        "left": np.int32([1, 2]),
        "right": np.int32([4, 3]),
        "value": np.log(np.float32([[7, 3], [6, 4], [2, 8]])),
    }
    return PolicyGraph(
        {"obs": ObservationSpec((2,), "float32")}, (Op("tree", ("obs",), "params", {}, tensors),), TWO.spec
    )
