"""What a field accepts from YAML and from the command line."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from kd_agent.settings import DistillConfig, resolve
from kd_agent.settings import types as field_types


def accepted(name: str, value: Any) -> Any:
    """A value as a field of the named type has it."""
    return TypeAdapter(getattr(field_types, name)).validate_python(value)


def test_numbers_in_scientific_notation_are_numbers(tmp_path: Path) -> None:
    assert yaml.safe_load("1e-3") == "1e-3"
    path = tmp_path / "settings.yaml"
    path.write_text("learning_rate: 1e-3\nenv_steps: 2e4\nl2: 1e-5")
    config = resolve(DistillConfig, {"env": "CartPole-v1"}, str(path))
    assert (config.learning_rate, config.env_steps, config.l2) == (1e-3, 20_000, 1e-5)
    assert type(config.env_steps) is int


@pytest.mark.parametrize(
    ("given", "layers"),
    [
        ("0", ()),
        (0, ()),
        (["0"], ()),
        ([0], ()),
        (["16", "8"], (16, 8)),
        (32, (32,)),
        ([], ()),
    ],
)
def test_no_hidden_layer_is_written_as_zero(given: Any, layers: tuple[int, ...]) -> None:
    assert resolve(DistillConfig, {"env": "CartPole-v1", "hidden": given}).hidden == layers


@pytest.mark.parametrize(
    ("given", "weights"),
    [
        ("kl", {"kl": 1}),
        (["kl=0.5", "ce"], {"kl": 0.5, "ce": 1}),
        ({"js": 2}, {"js": 2}),
    ],
)
def test_a_loss_is_a_name_or_a_weighted_sum(given: Any, weights: dict[str, float]) -> None:
    assert resolve(DistillConfig, {"env": "CartPole-v1", "loss": given}).loss == weights


GOOD: list[tuple[str, Any, Any]] = [
    ("Count", "1e5", 100_000),
    ("Count", 3.0, 3),
    ("Steps", "0", 0),
    ("Seed", 2**31 - 1, 2**31 - 1),
    ("Positive", "1e-3", 1e-3),
    ("NonNegative", 0, 0.0),
    ("Finite", "-1e20", -1e20),
    ("Fraction", 1, 1.0),
    ("Hidden", "16", (16,)),
    ("Weights", ["kl=2e0", "ce"], {"kl": 2.0, "ce": 1.0}),
    ("Keywords", ["gravity=-3.0", "wind", "names=[a, b]", "text=a=b"],
     {"gravity": -3.0, "wind": 1, "names": ["a", "b"], "text": "a=b"}),
    ("Keywords", {"gravity": -3.0}, {"gravity": -3.0}),
    ("Sources", "some.zip", ("some.zip",)),
    ("Sources", ["a.zip", "b"], ("a.zip", "b")),
    ("Activation", "silu", "silu"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "read"), GOOD, ids=[f"{name} {value}"[:40] for name, value, _ in GOOD])
def test_a_type_reads_what_yaml_and_a_command_line_may_hold(name: str, value: Any, read: Any) -> None:
    assert accepted(name, value) == read


REFUSED: list[tuple[str, Any]] = [
    ("Count", "1.5"), ("Count", 0), ("Count", None), ("Count", [1]), ("Steps", -1),
    ("Seed", "1e10"), ("Positive", "inf"), ("NonNegative", "nan"), ("Finite", "-inf"), ("Fraction", 1.01),
    ("Hidden", ["0", "16"]), ("Hidden", False), ("Hidden", 1.5), ("Weights", []), ("Weights", "kl=-1"),
    ("Keywords", "a={"), ("Keywords", 3), ("Sources", 3), ("Activation", "SiLU"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), REFUSED, ids=[f"{name} {value!r}"[:40] for name, value in REFUSED])
def test_a_type_refuses_everything_else(name: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        accepted(name, value)
