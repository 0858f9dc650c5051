"""Confidence: the certain teacher counts more, state by state."""

import pytest
import torch
import torch.distributions as td
from rule_answers import WEIGHTS, answers, combined, gaussian, part_probabilities
from samples import HEADS

from kd_agent.networks.base import PolicyOutput


@pytest.mark.parametrize("kind", HEADS)
def test_confidence_weighs_each_state_by_the_teachers_inverse_perplexity(kind: str) -> None:
    head = HEADS[kind]
    outputs = answers(head)
    entropies = []
    for output in outputs:
        if head.spec.is_gaussian:
            entropies.append(gaussian(output.params).entropy().mean(-1))
        else:
            parts = part_probabilities(head, output.params)
            entropies.append(torch.stack([td.Categorical(p).entropy() for p in parts]).mean(0))
    share = WEIGHTS * torch.stack(entropies, -1).neg().exp()
    share = share / share.sum(-1, keepdim=True)
    assert (share.std(0) > 0.01).any()
    found = combined("confidence", outputs, head)
    for state in range(7):
        one = [PolicyOutput(output.params[state : state + 1]) for output in outputs]
        torch.testing.assert_close(found[state : state + 1], combined("mixture", one, head, share[state]))


def test_a_teacher_without_a_preference_hardly_counts_and_equal_certainty_is_a_mixture() -> None:
    head = HEADS["categorical"]
    sure = PolicyOutput(torch.tensor([[50.0, 0.0, 0.0, 0.0]]))
    torn = PolicyOutput(torch.zeros(1, 4))
    found = combined("confidence", [sure, torn], head, torch.tensor([0.5, 0.5])).softmax(-1)
    # Perplexities are 1 and 4, so the weights are 4/5 and 1/5.
    torch.testing.assert_close(found, torch.tensor([[0.85, 0.05, 0.05, 0.05]]))
    other = PolicyOutput(torch.tensor([[0.0, 50.0, 0.0, 0.0]]))
    weights = torch.tensor([0.3, 0.7])
    found = combined("confidence", [sure, other], head, weights).softmax(-1)
    torch.testing.assert_close(found, combined("mixture", [sure, other], head, weights).softmax(-1))
