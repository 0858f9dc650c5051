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
from kd_agent.evaluation.agreement import (
    TOLERANCE,
    EpisodesAgreement,
    agree,
    agreement_on,
    answers,
    measure_agreement,
)
from kd_agent.networks.distributions import head_for
from kd_agent.policies.policy import Policy
from kd_agent.rollouts import Rollout
from kd_agent.rollouts.whole_episodes import Answers, play_whole_episodes


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


def test_it_is_measured_on_whole_episodes_of_seeds_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    played: list[tuple[dict[str, Any], Answers]] = []

    def spied(*args: Any, **told: Any) -> Answers:
        played.append((told, play_whole_episodes(*args, **told)))
        return played[-1][1]

    monkeypatch.setattr(agreement, "play_whole_episodes", spied)
    monkeypatch.setattr(agreement, "EPISODES", 3)
    monkeypatch.setattr(agreement, "STATES", 90)
    student = make_student(TEACHER.head).policy()
    recipe = recipe_of(PROBES["Discrete"])
    found = measure_agreement(TEACHER, student, recipe)
    told, said = played[0]
    assert (told["episodes"], told["states"]) == (3, 90)
    assert (found.agreement_episodes, found.agreement_states) == (len(set(said.episode)), len(said.episode))
    # What was stepped while the last of them played is paid for too.
    assert found.agreement_steps == said.steps >= len(said.episode)
    kl = TEACHER.head.kl(torch.from_numpy(said.teacher), torch.from_numpy(said.student))
    assert found.kl == pytest.approx(float(kl.mean()))
    assert found.agreement == np.mean(said.teacher.argmax(-1) == said.student.argmax(-1))
    assert found == measure_agreement(TEACHER, student, recipe)
    assert found != measure_agreement(TEACHER, student, recipe, seed=1)
    seeds = [told["first_seed"] for told, _ in played]
    assert seeds[0] == seeds[1] != seeds[2]
    assert max(seeds) < 2**30


def measured(monkeypatch: pytest.MonkeyPatch, kind: str, said: Answers) -> EpisodesAgreement:
    """What is made of answers that somebody else gave."""
    monkeypatch.setattr(agreement, "play_whole_episodes", lambda *args, **told: said)
    probe = {"categorical": "Discrete", "diag_gaussian": "Box"}[kind]
    teacher = a_teacher(kind=kind)
    return measure_agreement(teacher, Policy(teacher.graph), recipe_of(PROBES[probe]))


def test_every_state_counts_alike_and_the_intervals_are_over_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 60, 25)
    episode = np.repeat(np.arange(25), lengths)
    rng.shuffle(episode)
    teacher = rng.normal(size=(len(episode), 4)).astype(np.float32)
    # In some episodes they differ by much, in others by little.
    noise = rng.normal(size=(len(episode), 4)) * rng.uniform(0, 3, 25)[episode][:, None]
    student = (teacher + noise).astype(np.float32)
    found = measured(monkeypatch, "categorical", Answers(episode, teacher, student, steps=len(episode)))
    kl = TEACHER.head.kl(torch.from_numpy(teacher), torch.from_numpy(student)).double().numpy()
    same = (teacher.argmax(-1) == student.argmax(-1)).astype(float)
    for values, point, interval in ((kl, found.kl, found.kl_ci), (same, found.agreement, found.agreement_ci)):
        assert point == pytest.approx(values.mean(), rel=1e-5)
        drawn = rng.integers(25, size=(4_000, 25))
        totals = np.bincount(episode, values)
        ratios = totals[drawn].sum(1) / lengths[drawn].sum(1)
        spread = np.subtract(*np.quantile(ratios, [0.975, 0.025]))
        assert interval == pytest.approx(np.quantile(ratios, [0.025, 0.975]), abs=0.1 * spread)
        # As if states were independent, it would be far too narrow.
        assert interval[1] - interval[0] > 2 * (4 * values.std() / np.sqrt(len(values)))
    assert found.agreement_tolerance is found.mean_abs_difference is None


def test_continuous_actions_come_with_their_tolerance_and_their_difference_in_units(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Parts of a range of 2 and of 5; what is beyond the range is no action."""
    teacher = np.float32([[0.0, 1.0, 0, 0], [0.0, 1.0, 0, 0], [0.0, 1.0, 0, 0], [9.0, 1.0, 0, 0]])
    student = np.float32([[0.09, 1.24, 0, 0], [0.11, 1.0, 0, 0], [0.0, 1.26, 0, 0], [1.0, 1.0, 0, 0]])
    found = measured(monkeypatch, "diag_gaussian", Answers(np.array([0, 0, 1, 1]), teacher, student, steps=4))
    assert found.agreement_tolerance == TOLERANCE == 0.05
    assert found.agreement == 0.5
    assert found.agreement_ci == (0.5, 0.5)
    assert found.mean_abs_difference == pytest.approx((0.09 + 0.24 + 0.11 + 0.26) / 8)


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
