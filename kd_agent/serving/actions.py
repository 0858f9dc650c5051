"""What a policy answers in JSON: actions by index and name, probabilities, the runner-up; and the masks it is told.

Letters: `P` head parameters, `M` flags of an action mask, `*A` shape of an action.
"""

from typing import Any

import numpy as np

from kd_agent.errors import KDError
from kd_agent.policies import MASKED, Array, HeadSpec
from kd_agent.policies.names import action_names, known_actions
from kd_agent.serving.observations import Schema, shown

_DIGITS = 6
"""Decimals of a probability: more than a reader wants, and its price in tokens is small."""


class ActionWriter:
    """The actions of one policy.

    Args:
        head: Its action head.
        env_id: Gymnasium id, whose actions may have names.
    """

    def __init__(self, head: HeadSpec, env_id: str) -> None:
        self._head = head
        self._known = known_actions(env_id, head)
        self._listed = head.kind == "categorical"
        self._labels = action_names(env_id, head) if self._listed else []

    def describe(self) -> dict[str, Any]:
        """The action space in words that a reader needs to use an action."""
        head = self._head
        if self._listed:
            return {"kind": "discrete", "names": {str(head.start[0] + k): name for k, name in enumerate(self._labels)}}
        if head.is_gaussian:
            described = {"kind": "continuous", "shape": list(head.shape), "low": _finite(head.low)}
            return {**described, "high": _finite(head.high), "names": list(self._known)}
        return {"kind": head.kind, "shape": list(head.shape), "categories": list(head.nvec), "start": list(head.start)}

    def action(self, action: Array) -> dict[str, Any]:
        """One action `[*A]`, with its name or its numbers' names where they have any."""
        plain = np.asarray(action).tolist()
        answer: dict[str, Any] = {"action": plain}
        if self._listed:
            answer["name"] = self._labels[plain - self._head.start[0]]
        elif self._known:
            answer["by_name"] = dict(zip(self._known, np.ravel(action).tolist(), strict=True))
        return answer

    def probabilities(self, row: Array) -> dict[str, Any]:
        """The probabilities of a row `[P]`: by name, by part, or of each bit being 1.

        Raises:
            KDError: The actions are continuous.
        """
        head = self._head
        if head.is_gaussian:
            raise KDError("continuous actions have a density, not probabilities; use the tool act")
        found = head.probabilities(row[None])
        if self._listed:
            return {"probabilities": dict(zip(self._labels, _rounded(found[0]), strict=True))}
        if head.kind == "bernoulli":
            return {"probabilities_of_1": _rounded(found[0])}
        return {"probabilities": [_rounded(part[0]) for part in head.split(found)]}

    def runner_up(self, row: Array) -> dict[str, Any] | None:
        """The second most probable action of a row `[P]`: the least clear part decided otherwise.

        Returns:
            The action, and how many times less probable it is; None where actions are continuous or there is no other.
        """
        head = self._head
        if head.is_gaussian:
            return None
        action = head.greedy(row[None]).reshape(-1).astype(np.int64)
        parts = [np.array([0, logit]) for logit in row] if head.kind == "bernoulli" else head.split(row)
        gaps = []
        seconds = []
        for logits in parts:
            order = np.argsort(-logits, kind="stable")
            gaps.append(logits[order[0]] - logits[order[1]] if len(order) > 1 else np.inf)
            seconds.append(order[min(1, len(order) - 1)])
        part = int(np.argmin(gaps))
        # One that a mask forbids is no choice.
        if gaps[part] >= -MASKED / 2:
            return None
        action[part] = seconds[part] + (head.start[part] if head.start else 0)
        answer = self.action(action.astype(head.dtype).reshape(head.shape))
        # Beyond e^700 float64 ends.
        times = np.exp(min(float(gaps[part]), 700))
        return {**answer, "times_less_probable": float(f"{times:.4g}")}

    def mask_schema(self) -> Schema | None:
        """The schema of a mask: a flag for each action that can be listed; None where none can."""
        if self._head.is_gaussian:
            return None
        count = self._head.num_masks
        return {"type": "array", "items": {"type": "boolean"}, "minItems": count, "maxItems": count}

    def read_mask(self, value: Any) -> Array | None:
        """The flags `[M]` that a JSON value stands for; None: everything is allowed.

        Raises:
            KDError: It is no array of as many flags, allows nothing, or is lacking where the policy plays with masks.
        """
        head = self._head
        if value is None:
            if head.expects_masks:
                raise KDError(f"action_mask is missing: this policy plays with masks, {head.num_masks} flags")
            return None
        if head.is_gaussian:
            raise KDError("action_mask: continuous actions cannot be masked; leave it out")
        if not isinstance(value, list) or len(value) != head.num_masks:
            said = f"{len(value)} entries" if isinstance(value, list) else shown(value)
            raise KDError(f"action_mask is {said}; expected an array of {head.num_masks} flags")
        for flag in value:
            if flag not in (True, False, 0, 1):
                raise KDError(f"action_mask: {shown(flag)} is no flag; expected true or false")
        flags = np.array(value, bool)
        if not flags.any():
            raise KDError("action_mask allows no action")
        return flags


def _rounded(numbers: Array) -> list[float]:
    return [round(number, _DIGITS) for number in numbers.tolist()]


def _finite(bounds: tuple[float, ...]) -> list[float | None]:
    """Bounds in JSON, which has no infinity."""
    return [bound if np.isfinite(bound) else None for bound in bounds]
