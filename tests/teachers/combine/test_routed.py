"""Routed: one teacher is asked in each state."""

import pytest
import torch
from rule_answers import answers, combined, part_probabilities
from samples import HEADS, rows

from kd_agent import plugins
from kd_agent.networks.base import PolicyOutput


@pytest.mark.parametrize("kind", HEADS)
def test_a_route_follows_the_highest_value_and_without_critics_the_most_certain(kind: str) -> None:
    head = HEADS[kind]
    outputs = answers(head, [1.0, 3.0, 2.0])
    torch.testing.assert_close(combined("routed", outputs, head), outputs[1].params)
    if head.spec.is_gaussian:
        certain = torch.stack([-output.params.chunk(2, -1)[1].sum(-1) for output in outputs]).argmax(0)
    else:
        each = [torch.stack([(p * p.log()).sum(-1) for p in part_probabilities(head, o.params)]) for o in outputs]
        certain = torch.stack([e.sum(0) for e in each]).argmax(0)
    assert len(set(certain.tolist())) > 1
    blind = [*outputs[:2], PolicyOutput(outputs[2].params)]
    expected = torch.stack([outputs[int(k)].params[state] for state, k in enumerate(certain)])
    torch.testing.assert_close(combined("routed", blind, head), expected)


def test_values_are_compared_state_by_state_as_they_are_and_weights_say_nothing() -> None:
    head = HEADS["categorical"]
    first = PolicyOutput(rows(head, seed=0), torch.tensor([1.0, -1.0, 0, 0, 0, 0, 100.0]))
    second = PolicyOutput(rows(head, seed=1), torch.tensor([0.5, 1.0, 1e-3, -1, 1, -1, 99.0]))
    chosen = plugins.load("teachers.combine", "routed").choose([first, second], head)
    assert chosen.tolist() == [0, 1, 1, 0, 1, 0, 0]
    for weights in ([0.5, 0.5], [0.01, 0.99]):
        found = combined("routed", [first, second], head, torch.tensor(weights))
        assert torch.equal(found, torch.where(chosen[:, None] == 0, first.params, second.params))
