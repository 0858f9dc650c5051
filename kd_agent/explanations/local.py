"""What a policy looks at in one state: permutation importance (see `saliency`) of a single observation.

Each feature is exchanged for its values in reference states, one after the other, while everything else stays: the mean
KL says how much the answer hangs on it. A patch of an image is covered with what is typical of it there.

Letters: `F` features, `R` reference states, `P` head parameters, `*O` shape of an observation.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kd_agent.evaluation import agree
from kd_agent.explanations.features import Feature
from kd_agent.explanations.saliency import divergence
from kd_agent.networks import ActionHead
from kd_agent.policies import Array


@dataclass(frozen=True)
class LocalEffect:
    """What a feature means in one state.

    Attributes:
        name: The feature's.
        kl: Mean KL from the policy's row to its row with another value of the feature, in nats.
        changed: Share of the other values that change the greedy action.
    """

    name: str
    kl: float
    changed: float


def local_effects(
    ask: Callable[[Mapping[str, Array]], Array],
    head: ActionHead,
    features: Sequence[Feature],
    observation: Mapping[str, Array],
    references: Mapping[str, Array],
) -> list[LocalEffect]:
    """The effect of every feature, in their order.

    Args:
        ask: The policy's rows `[n, P]` for observations `[n, *O]` by key.
        head: Its action head.
        features: The features `F`.
        observation: The state, `[1, *O]` by key.
        references: States that lend their values, `[R, *O]` by key.
    """
    own = ask(observation)
    found = []
    for feature in features:
        values = feature.of(references)
        if feature.cell:
            values = np.median(values, axis=0, keepdims=True).astype(values.dtype)
        repeated = {key: np.repeat(array, len(values), axis=0) for key, array in observation.items()}
        without = ask(feature.replaced(repeated, values))
        before = np.repeat(own, len(values), axis=0)
        # Rounding makes a little less than nothing of nothing.
        kl = max(divergence(head, before, without).mean(), 0.0)
        changed = 1 - agree(head.spec, before, without).mean()
        found.append(LocalEffect(feature.name, float(kl), float(changed)))
    return found
