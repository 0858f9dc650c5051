"""The settings of `serve`: whom, and where they play."""

import pytest

from kd_agent import KDError
from kd_agent.settings import ServeConfig, resolve


def test_one_student_or_several_are_served() -> None:
    assert resolve(ServeConfig, {"student": "a.safetensors"}).student == ("a.safetensors",)
    assert resolve(ServeConfig, {"student": ["a.safetensors", "b.safetensors"]}).student[1] == "b.safetensors"
    with pytest.raises(KDError, match=r"^student: .* at least 1 item"):
        resolve(ServeConfig, {"student": []})


def test_where_they_play_is_theirs_unless_it_is_told() -> None:
    found = resolve(ServeConfig, {"student": "a.safetensors"})
    assert (found.env, found.env_kwargs, found.wrapper, found.seed) == (None, {}, (), 0)
    told = {"env": "CartPole-v1", "env_kwargs": {"sutton_barto_reward": True}, "wrapper": ["a:B"], "seed": 5}
    found = resolve(ServeConfig, {"student": "a.safetensors", **told})
    assert (found.env, found.wrapper, found.seed) == ("CartPole-v1", ("a:B",), 5)
    with pytest.raises(KDError, match=r"^seed: "):
        resolve(ServeConfig, {"student": "a.safetensors", "seed": -1})
