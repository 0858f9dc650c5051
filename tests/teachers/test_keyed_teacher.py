"""A teacher that observes a part of a Dict observation."""

import numpy as np
import torch
from samples import HEADS, make_student
from small_agents import VECTORS

from kd_agent.networks.base import Origin
from kd_agent.policies import ObservationSpec
from kd_agent.teachers import GraphTeacher, KeyedTeacher

ORIGIN = Origin("student", "0" * 64, "student", 1)


def test_one_key_is_what_the_teacher_calls_its_observation() -> None:
    plain = GraphTeacher(make_student(HEADS["categorical"]).graph(), ORIGIN)
    keyed = KeyedTeacher(plain, ["state"])
    others = {"image": np.zeros((6, 2)), "state": VECTORS["obs"]}
    assert torch.equal(keyed(others).params, plain(VECTORS).params)
    assert keyed.observations == {"state": plain.observations["obs"]}
    assert (keyed.origin, keyed.head, keyed.recurrent) == (plain.origin, plain.head, False)
    assert (keyed.widest_layer, keyed.last_layer) == (plain.widest_layer, plain.last_layer)


def test_several_keys_keep_their_names() -> None:
    specs = {key: ObservationSpec((4,), "float32") for key in ("arm", "goal")}
    plain = GraphTeacher(make_student(HEADS["categorical"], observations=specs).graph(), ORIGIN)
    keyed = KeyedTeacher(plain, ["arm", "goal"])
    observations = {"arm": VECTORS["obs"], "goal": -VECTORS["obs"]}
    wanted = plain(observations).params
    assert torch.equal(keyed({**observations, "more": np.zeros((6, 1))}).params, wanted)
    assert set(keyed.observations) == {"arm", "goal"}


def test_memory_is_the_teachers() -> None:
    plain = GraphTeacher(make_student(HEADS["categorical"], "gru", hidden=(5,)).graph(), ORIGIN)
    keyed = KeyedTeacher(plain, ["state"])
    assert keyed.recurrent
    first = keyed({"state": VECTORS["obs"]})
    starts = np.array([True, False] * 3)
    second = keyed({"state": VECTORS["obs"]}, first.state, starts)
    torch.testing.assert_close(second.params, plain(VECTORS, first.state, starts).params)
    assert torch.equal(second.params[starts], first.params[starts])
    assert not torch.equal(second.params[~starts], first.params[~starts])
