"""How closely a student agrees with its teacher: on which states, by what measure."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from recorder import TEACHER, a_teacher
from samples import HEADS, PROBES, Agent, labelled, make_student, rows
from torch.distributions import kl_divergence

from kd_agent import load_teacher
from kd_agent.environments import recipe_of
from kd_agent.evaluation import agreement
from kd_agent.evaluation.agreement import agree, agreement_on, answers, measure_agreement
from kd_agent.networks.distributions import head_for
from kd_agent.policies.policy import Policy
from kd_agent.rollouts import Rollout, collect
from kd_agent.rollouts.collect import STUDENT


@pytest.mark.parametrize("kind", HEADS)
def test_agreement_is_total_with_oneself_and_partial_with_another(kind: str) -> None:
    spec = HEADS[kind].spec
    p, q = rows(HEADS[kind], 200).numpy(), rows(HEADS[kind], 200, seed=1).numpy()
    assert agree(spec, p, p).all()
    assert 0 < agree(spec, p, q).mean() < 1


def test_agreement_comes_with_the_mean_kl_beside_that_of_the_uniform_policy(agents: dict[str, Agent]) -> None:
    agent = agents["Discrete"]
    teacher = load_teacher(str(agent.path))
    student = make_student(teacher.head).policy()
    states = {"obs": agent.observations(100)}
    close = agreement_on(teacher, student, labelled(teacher, states))
    p, q = teacher(states).params, torch.from_numpy(student.params_batch(states))
    of = teacher.head.distribution
    assert close.kl == pytest.approx(float(kl_divergence(of(p), of(q)).mean()), rel=1e-4)
    assert close.kl_uniform == pytest.approx(float((np.log(4) - of(p).entropy()).mean()), rel=1e-4)
    assert close.agreement == pytest.approx(float((p.argmax(-1) == q.argmax(-1)).float().mean()))
    itself = agreement_on(teacher, Policy(teacher.graph), labelled(teacher, states))
    assert itself.kl < 1e-6
    assert itself.agreement == 1


def test_the_parts_of_a_box_agree_within_a_twentieth_of_their_range() -> None:
    spec = head_for(Box(np.float32([-1, -np.inf]), np.float32([1, np.inf]))).spec
    noise = [0.0, 0.0]
    one = np.float32([[0.0, 5.0, *noise]] * 4)
    other = np.float32([[0.09, 5.0, *noise], [0.11, 5.0, *noise], [0.0, 5.09, *noise], [0.0, 5.11, *noise]])
    assert agree(spec, one, other).tolist() == [True, False, True, False]


def test_every_part_of_an_action_has_to_agree() -> None:
    spec = HEADS["multi_categorical"].spec
    one = np.float32([[1, 0, 0, 1, 0, 0, 0]] * 3)
    other = np.float32([[2, 0, 0, 2, 0, 0, 0], [0, 1, 0, 1, 0, 0, 0], [1, 0, 0, 0, 1, 0, 0]])
    assert agree(spec, one, other).tolist() == [True, False, False]


def test_it_is_measured_on_states_that_the_student_visits(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, Any]] = []
    rollouts: list[Rollout] = []

    def spied(*args: Any, **more: Any) -> Rollout:
        told.append(more)
        rollouts.append(collect(*args, **more))
        return rollouts[-1]

    monkeypatch.setattr(agreement, "collect", spied)
    monkeypatch.setattr(agreement, "STATES", 64)
    student = make_student(TEACHER.head).policy()
    found = measure_agreement(TEACHER, student, recipe_of(PROBES["Discrete"]))
    assert found == agreement_on(TEACHER, student, rollouts[0])
    assert (told[0]["steps"], told[0]["beta"]) == (4, 0.0)
    assert rollouts[0].driver.shape == (4, 16)
    assert (rollouts[0].driver == STUDENT).all()
    assert found == measure_agreement(TEACHER, student, recipe_of(PROBES["Discrete"]))
    assert found != measure_agreement(TEACHER, student, recipe_of(PROBES["Discrete"]), seed=1)


def test_a_student_with_a_memory_is_asked_along_its_episodes() -> None:
    """Its answers are those of one that is asked step by step, and begin anew where an episode does."""
    student = make_student(HEADS["categorical"], "gru", hidden=(5,)).policy()
    rng = np.random.default_rng(0)
    starts = np.zeros((6, 2), bool)
    starts[0] = True
    starts[3, 1] = True
    obs = rng.normal(size=(6, 2, 4)).astype(np.float32)
    one = np.ones((6, 2), np.float32)
    rollout = Rollout({"obs": obs}, np.zeros((6, 2, 4), np.float32), one.astype(np.int8), one, starts, one)
    found = answers(student, rollout)
    assert found.shape == (6, 2, 4)
    alone = answers(student, Rollout.from_arrays({name: x[3:, [1]] for name, x in rollout.arrays().items()}))
    np.testing.assert_allclose(found[3:, [1]], alone, atol=1e-6)
    cold = answers(student, Rollout.from_arrays({name: x[3:, [0]] for name, x in rollout.arrays().items()}))
    assert not np.allclose(found[3:, [0]], cold, atol=1e-3)


def test_a_worse_student_is_further_away() -> None:
    states = {"obs": np.random.default_rng(0).uniform(-1, 1, (300, 4)).astype(np.float32)}
    rollout = labelled(TEACHER, states)
    same, other = (agreement_on(TEACHER, Policy(a_teacher(seed).graph), rollout) for seed in (9, 5))
    assert same.kl < 1e-6 < other.kl
    assert same.agreement == 1 > other.agreement
    assert same.kl_uniform == other.kl_uniform > 0
