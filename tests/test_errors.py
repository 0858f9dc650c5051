"""Errors of one line that help out."""

import pytest

from kd_agent import KDError
from kd_agent.errors import unknown


@pytest.mark.parametrize(("name", "nearest"), [("kk", "kl"), ("revers_kl", "reverse_kl"), ("KL", None), ("js ", "js")])
def test_the_nearest_choice_is_named_where_one_is_near(name: str, nearest: str | None) -> None:
    error = unknown("loss", name, ["reverse_kl", "kl", "js"])
    expected = f"did you mean {nearest!r}?" if nearest else "choose from: js, kl, reverse_kl"
    assert str(error) == f"unknown loss {name!r}; {expected}"
    assert isinstance(error, KDError)


def test_a_long_list_is_cut_short() -> None:
    choices = [f"number {i:02}" for i in range(40)]
    message = str(unknown("thing", "xyz", reversed(choices)))
    assert message.endswith("number 10, number 11, ...")
    assert "number 12" not in message
    assert not str(unknown("thing", "xyz", choices[:12])).endswith("...")


@pytest.mark.parametrize("name", [None, 3, 2.5, ["kl"], "a\nb\x1b[2J"])
def test_whatever_was_named_the_message_is_one_line_without_control_characters(name: object) -> None:
    message = str(unknown("loss", name, {"kl": 1, "ce": 2}))
    assert message.startswith("unknown loss ")
    assert message.isprintable()


def test_an_error_is_one_line_whatever_is_printed_in_it() -> None:
    assert str(KDError("it observes [[1\n  2]],  not 3")) == "it observes [[1 2]], not 3"
    assert str(KDError("a  b")) == "a  b"
