"""Contract of every rule for several teachers, by hand and against torch."""

import pytest
from rule_answers import RULES, combined
from samples import HEADS, rows

from kd_agent.networks.base import PolicyOutput


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", HEADS)
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
