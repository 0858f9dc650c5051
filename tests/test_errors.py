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


def test_a_name_of_any_length_is_shown_by_its_beginning_and_no_choice_is_said_too() -> None:
    assert str(unknown("loss", "x" * 10_000, ["kl"])) == f"unknown loss '{'x' * 80}...'; choose from: kl"
    assert str(unknown("argument", "x", [])) == "unknown argument 'x'; there is none to choose"


def test_an_error_is_one_line_whatever_is_printed_in_it() -> None:
    assert str(KDError("it observes [[1\n  2]],  not 3")) == "it observes [[1 2]], not 3"
    assert str(KDError("a  b")) == "a  b"


FLAGS = ["--out", "--states", "--temperature", "--student-keys", "--seed"]


@pytest.mark.parametrize(
    ("name", "options", "nearest"),
    [
        ("--temprature", FLAGS, "--temperature"),
        ("--temp", FLAGS, "--temperature"),
        ("--student", FLAGS, "--student-keys"),
        ("--episodes", FLAGS, None),
        ("--input", FLAGS, None),
        ("CartPole-v9", ["CartPole-v0", "CartPole-v1", "Acrobot-v1"], "CartPole-v1"),
        ("Foo-v0", ["CartPole-v0", "Bar-v3"], None),
        ("T-v0", ["Ant-v0", "CartPole-v0"], None),
        ("lunar-v3", ["LunarLander-v3"], None),
        ("Lunar", ["LunarLander-v3", "Ant-v3"], "LunarLander-v3"),
        ("mpl", ["mlp", "cnn", "gru"], "mlp"),
        ("", ["mlp"], None),
    ],
)
def test_what_names_have_in_common_makes_none_of_them_near(name: str, options: list[str], nearest: str | None) -> None:
    message = str(unknown("thing", name, options))
    assert message.endswith(f"did you mean {nearest!r}?" if nearest else f"choose from: {', '.join(sorted(options))}")
