"""Teacher selection: who is inferior to the best gets no weight, under every rule."""

import numpy as np
import pytest
from fixed_teachers import corrupted, good, specialist
from rule_answers import RULES
from samples import PROBES

from kd_agent.environments.recipe import recipe_of
from kd_agent.evaluation.comparison import Episodes
from kd_agent.evaluation.teacher_selection import SELECTION_SEED, TeacherSelection, decisions
from kd_agent.networks.base import Teacher
from kd_agent.rollouts.evaluate import evaluate
from kd_agent.runs.reporter import Reporter
from kd_agent.settings import DistillConfig, resolve
from kd_agent.teachers._ensemble import EnsembleTeacher


def selected(teachers: list[Teacher], combine: str = "mixture") -> EnsembleTeacher:
    config = resolve(DistillConfig, {"env": PROBES["Discrete"], "combine": combine})
    return selection(config, Reporter(quiet=True)).weigh(EnsembleTeacher(teachers, combine))


def selection(config: DistillConfig, reporter: Reporter) -> TeacherSelection:
    episodes = Episodes(recipe_of(config.env), first_seed=SELECTION_SEED, reporter=reporter)
    return TeacherSelection(episodes, config.margin, reporter)


@pytest.mark.parametrize("rule", RULES)
def test_a_corrupted_teacher_sinks_every_rule_and_selection_keeps_it_out(rule: str) -> None:
    teachers: list[Teacher] = [good(), corrupted(), good("also good", 2.0)]
    seeds, env = range(20), PROBES["Discrete"]
    best = evaluate(good(), env, seeds=seeds).returns.mean()
    sunk = evaluate(EnsembleTeacher(teachers, rule), env, seeds=seeds).returns.mean()
    kept = selected(teachers, rule)
    assert best == 50
    assert sunk < 0.5 * best
    assert evaluate(kept, env, seeds=seeds).returns.mean() == best
    assert [record["weight"] for record in kept.origin.teachers] == [0.5, 0.0, 0.5]
    assert [record["verdict"] for record in kept.origin.teachers] == ["best", "inferior", "undecided"]
    assert kept.origin.num_parameters == 20
    assert kept.origin.gate_steps == (3 + 1 + 1) * 48 * 50
    assert kept.origin.sha256 == EnsembleTeacher(teachers, rule).origin.sha256


@pytest.mark.parametrize("rule", RULES)
def test_specialists_that_know_what_they_do_not_know_are_together_as_good_as_one_that_knows_all(rule: str) -> None:
    """Selection keeps both where they are equals and drops the lesser one, which is why it can be turned off."""
    halves: list[Teacher] = [specialist("left", lambda x: x < 0), specialist("right", lambda x: x >= 0)]
    returns = [evaluate(teacher, PROBES["Discrete"], seeds=range(20)).returns.mean() for teacher in halves]
    together = evaluate(EnsembleTeacher(halves, rule), PROBES["Discrete"], seeds=range(20)).returns.mean()
    assert max(returns) < 40
    assert together > 45
    lesser: list[Teacher] = [specialist("most", lambda x: x < 0.6), specialist("rest", lambda x: x >= 0.6)]
    assert [record["weight"] for record in selected(lesser, rule).origin.teachers] == [1.0, 0.0]
    open_to_all = evaluate(EnsembleTeacher(lesser, rule), PROBES["Discrete"], seeds=range(20)).returns.mean()
    assert open_to_all > evaluate(lesser[0], PROBES["Discrete"], seeds=range(20)).returns.mean() + 2


def test_who_has_no_weight_is_named_and_good_teachers_that_spoil_each_other_are_a_warning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    teachers = [good(), corrupted()]
    config = resolve(DistillConfig, {"env": PROBES["Discrete"]})
    selection(config, Reporter(progress=False)).weigh(EnsembleTeacher(teachers))
    said = capsys.readouterr().err
    assert "teacher corrupted: mean 0.0 in 48 episodes, weight 0, inferior to the best: it is left out" in said
    assert "teacher good: mean 50.0 in 48 episodes, weight 1\n" in said
    assert "WARNING" not in said
    again = selection(config, Reporter(progress=False))
    spoilt = EnsembleTeacher([good(), corrupted(), good("third")], "confidence")
    again._compare_together(spoilt, [[50.0] * 48] * 3, 12.0)
    assert "WARNING: together the teachers are worse than the best alone (mean 50.0)" in capsys.readouterr().err


def test_verdicts_are_against_the_best_and_share_the_error() -> None:
    """Between equals few episodes decide nothing: who is not shown to be inferior keeps its weight."""
    rng = np.random.default_rng(0)
    best = rng.normal(100, 5, 60)
    random = [0.0] * 20
    returns = [list(best - 60), list(best), list(best - 0.1), list(rng.normal(0, 5, 60))]
    assert decisions(returns, random, 0.05) == ["inferior", "best", "undecided", "inferior"]
    assert decisions(returns, random, 0.2) == ["inferior", "best", "non-inferior", "inferior"]
    assert decisions([[1.0] * 60], random, 0.05) == ["best"]
    # Against one other it has the error for itself, among many hardly any.
    near = list(best - 15)
    assert decisions([list(best), near], random, 0.05) == ["best", "inferior"]
    assert decisions([list(best), *[near] * 60], random, 0.05) == ["best", *["undecided"] * 60]
