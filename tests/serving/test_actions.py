"""Actions in JSON: what the head says, under the environment's names; the runner-up is the next most probable."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from samples import HEADS

from kd_agent import KDError
from kd_agent.policies.head import MASKED, HeadSpec
from kd_agent.serving.actions import ActionWriter

LUNAR = HeadSpec("categorical", (), "int64", nvec=(4,), start=(0,))
TORQUE = HeadSpec("diag_gaussian", (1,), "float32", low=(-2.0,), high=(2.0,))
LOGITS = {
    "categorical": [0.3, -1.0, 0.25, 0.1],
    "multi_categorical": [1, 0, -1, 0.2, 0.1, -3, -3],
    "bernoulli": [2, -0.1, 1],
}
MASKS = {**HEADS["categorical"].spec.__dict__, "expects_masks": True}


def test_a_discrete_action_has_an_index_and_a_name() -> None:
    writer = ActionWriter(LUNAR, "LunarLander-v3")
    assert writer.action(np.int64(2)) == {"action": 2, "name": "main engine"}
    assert writer.describe()["names"] == {"0": "no engine", "1": "left engine", "2": "main engine", "3": "right engine"}
    later = HeadSpec("categorical", (), "int64", nvec=(4,), start=(5,))
    assert ActionWriter(later, "nowhere-v0").action(np.int64(7)) == {"action": 7, "name": "7"}


def test_a_continuous_action_is_an_array_and_by_name() -> None:
    found = ActionWriter(TORQUE, "Pendulum-v1")
    assert found.action(np.float32([0.5])) == {"action": [0.5], "by_name": {"torque": 0.5}}
    assert found.describe() == {"kind": "continuous", "shape": [1], "low": [-2.0], "high": [2.0], "names": ["torque"]}
    assert ActionWriter(TORQUE, "nowhere-v0").action(np.float32([0.5])) == {"action": [0.5]}
    endless = HeadSpec("diag_gaussian", (1,), "float32", low=(-np.inf,), high=(np.inf,))
    assert ActionWriter(endless, "").describe()["low"] == [None]


def test_probabilities_are_by_name_and_add_up() -> None:
    row = np.float32(LOGITS["categorical"])
    found = ActionWriter(LUNAR, "LunarLander-v3").probabilities(row)["probabilities"]
    expected = np.exp(row) / np.exp(row).sum()
    assert list(found) == ["no engine", "left engine", "main engine", "right engine"]
    np.testing.assert_allclose(list(found.values()), expected, atol=1e-6)
    with pytest.raises(KDError, match="continuous actions have a density, not probabilities; use the tool act"):
        ActionWriter(TORQUE, "").probabilities(np.zeros(2, np.float32))


def test_probabilities_of_several_parts_are_a_list_each() -> None:
    parts = ActionWriter(HEADS["multi_categorical"].spec, "").probabilities(np.float32(LOGITS["multi_categorical"]))
    assert [len(part) for part in parts["probabilities"]] == [3, 4]
    assert [round(sum(part), 4) for part in parts["probabilities"]] == [1, 1]
    bits = ActionWriter(HEADS["bernoulli"].spec, "").probabilities(np.float32([0, 100, -100]))
    assert bits == {"probabilities_of_1": [0.5, 1.0, 0.0]}


def joint(spec: HeadSpec, row: np.ndarray) -> dict[tuple[int, ...], float]:
    """The probability of every action of a factorised distribution."""
    flat = spec.probabilities(row[None].astype(np.float64))[0]
    if spec.kind == "bernoulli":
        parts = [[1 - p, p] for p in flat]
    else:
        parts = [part.tolist() for part in np.split(flat, np.cumsum(spec.nvec)[:-1])]
    actions = product(*[range(len(part)) for part in parts])
    return {action: float(np.prod([part[k] for part, k in zip(parts, action, strict=True)])) for action in actions}


@pytest.mark.parametrize("kind", LOGITS)
def test_the_runner_up_is_the_second_most_probable_of_all_actions(kind: str) -> None:
    spec = HEADS[kind].spec
    row = np.float32(LOGITS[kind])
    (_, best), (second, less) = sorted(joint(spec, row).items(), key=lambda pair: -pair[1])[:2]
    found: Any = ActionWriter(spec, "").runner_up(row)
    assert np.ravel(found["action"]).astype(int).tolist() == list(second)
    assert found["times_less_probable"] == pytest.approx(best / less, rel=1e-3)


def test_where_nothing_else_can_be_done_there_is_no_runner_up() -> None:
    assert ActionWriter(TORQUE, "").runner_up(np.zeros(2, np.float32)) is None
    assert ActionWriter(LUNAR, "").runner_up(np.float32([1, MASKED, MASKED, MASKED])) is None
    assert ActionWriter(HEADS["categorical"].spec, "").runner_up(np.float32([0, -900, -901, -902])) is not None


def test_a_mask_is_as_many_flags_as_there_are_choices() -> None:
    writer = ActionWriter(LUNAR, "")
    schema: Any = writer.mask_schema()
    assert schema["minItems"] == schema["maxItems"] == 4
    assert writer.read_mask(None) is None
    flags: Any = writer.read_mask([True, False, 0, 1])
    assert flags.tolist() == [True, False, False, True]
    assert ActionWriter(TORQUE, "").mask_schema() is None


@pytest.mark.parametrize(
    ("head", "value", "answer"),
    [
        (LUNAR, [True], "action_mask is 1 entries; expected an array of 4 flags"),
        (LUNAR, "all", 'action_mask is "all"; expected an array of 4 flags'),
        (LUNAR, [True, True, True, "no"], 'action_mask: "no" is no flag; expected true or false'),
        (LUNAR, [True, True, True, [1]], "action_mask: an array is no flag"),
        (LUNAR, [False] * 4, "action_mask allows no action"),
        (TORQUE, [True], "action_mask: continuous actions cannot be masked; leave it out"),
        (HeadSpec(**MASKS), None, "action_mask is missing: this policy plays with masks, 4 flags"),
    ],
)
def test_a_wrong_mask_is_told_what_is_wrong(head: HeadSpec, value: Any, answer: str) -> None:
    with pytest.raises(KDError) as caught:
        ActionWriter(head, "").read_mask(value)
    assert str(caught.value).startswith(answer)
