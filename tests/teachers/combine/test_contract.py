"""Contract of every rule for several teachers: rows in, one row of the same head out."""

import pytest
import torch
from rule_answers import RULES, WEIGHTS, answers, combined
from samples import HEADS, rows

from kd_agent import KDError, plugins
from kd_agent.networks.base import PolicyOutput

every_rule = pytest.mark.parametrize("rule", RULES)
every_head = pytest.mark.parametrize("kind", HEADS)


def test_the_rules_of_the_documentation_are_there() -> None:
    assert set(RULES) >= {"mixture", "product", "confidence", "routed"}
    with pytest.raises(KDError, match="unknown combine 'mixtrue'; did you mean 'mixture'"):
        plugins.load("teachers.combine", "mixtrue")


@every_rule
@every_head
def test_teachers_who_agree_are_repeated_and_offsets_of_logits_say_nothing(rule: str, kind: str) -> None:
    head = HEADS[kind]
    one = rows(head)
    found = combined(rule, [PolicyOutput(one)] * 3, head)
    assert head.kl(one, found).abs().max() < 1e-5
    if kind in ("categorical", "multi_categorical"):
        shifted = [PolicyOutput(one), PolicyOutput(one + 100), PolicyOutput(one - 7)]
        assert head.kl(one, combined(rule, shifted, head)).abs().max() < 1e-4
    extreme = [PolicyOutput(1e4 * rows(head, seed=s)) for s in range(3)]
    if not head.spec.is_gaussian:
        assert combined(rule, extreme, head).isfinite().all()


@every_rule
@every_head
def test_a_batch_gets_one_row_a_state_and_the_answers_stay_as_they_are(rule: str, kind: str) -> None:
    head = HEADS[kind]
    outputs = answers(head, [1.0, 3.0, 2.0])
    before = [output.params.clone() for output in outputs]
    weights = WEIGHTS.clone()
    found = combined(rule, outputs, head, weights)
    assert found.shape == (7, head.num_params)
    assert found.isfinite().all()
    assert torch.equal(weights, WEIGHTS)
    assert all(torch.equal(output.params, row) for output, row in zip(outputs, before, strict=True))


@every_rule
@every_head
def test_one_teacher_alone_is_itself(rule: str, kind: str) -> None:
    head = HEADS[kind]
    one = rows(head)
    assert head.kl(one, combined(rule, [PolicyOutput(one)], head, torch.ones(1))).abs().max() < 1e-5


@every_rule
@every_head
def test_the_order_of_the_teachers_says_nothing(rule: str, kind: str) -> None:
    head = HEADS[kind]
    outputs = answers(head, [1.0, 3.0, 2.0])
    order = [2, 0, 1]
    turned = combined(rule, [outputs[k] for k in order], head, WEIGHTS[order])
    torch.testing.assert_close(turned, combined(rule, outputs, head), atol=1e-5, rtol=1e-5)


@every_rule
@every_head
def test_a_states_row_depends_on_no_other_state(rule: str, kind: str) -> None:
    head = HEADS[kind]
    outputs = answers(head)
    together = combined(rule, outputs, head)
    for state in range(7):
        alone = combined(rule, [PolicyOutput(output.params[state : state + 1]) for output in outputs], head)
        torch.testing.assert_close(alone[0], together[state], atol=1e-5, rtol=1e-5)
