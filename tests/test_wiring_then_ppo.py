"""Distil, then reinforce: PPO begins with the student and with its own settings, and what is worse is not returned."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorder import GIVEN, SEAMS, TEACHER, Recorder, Stopped, fingerprint, original, recorded
from stable_baselines3 import PPO

from kd_agent import load_policy
from kd_agent.ppo.guided_policy import GuidedPolicy
from kd_agent.rollouts.evaluate import Evaluation

STEPS = 256
SELECTION = 40_000
BEST = 3
"""Which of PPO's evaluations is the best, from 1."""
TRAINING = {"gamma": 0.9, "gae_lambda": 0.8, "clip_range": 0.9, "learning_rate": 0.5, "hidden": [9], "n_epochs": 1}
"""Of an environment: for a training from nothing."""
DISTILLED = 100.0


class Reinforced:
    """A run whose student PPO goes on from, and what was seen of it.

    Attributes:
        recorder: The rest of the run.
        models: Those that PPO trained.
        begun: The programs that they began with.
        programs: Those that were evaluated while they were trained.
        warming: Whether the critic warmed up, at each minibatch.
        weights: Of the teacher, at each minibatch.
        holding: Whether the actor stays as it is while the critic warms up.
    """

    def __init__(
        self,
        folder: Path,
        earns: float,
        *,
        learn: Callable[..., Any] | None = None,
        stop_at_selection: bool = False,
        **more: Any,
    ) -> None:
        self.models: list[PPO] = []
        self.begun: list[str] = []
        self.programs: list[str] = []
        self.warming: list[bool] = []
        self.weights: list[float] = []
        self.holding: list[bool] = []
        self.recorder = Recorder(by_policy=lambda player: self._earned(player, earns, stop_at_selection))
        really_learn, bonus = original("learn"), original("bonus")

        def spied_learn(model: PPO, *told: Any, **also: Any) -> Any:
            self.models.append(model)
            if isinstance(model.policy, GuidedPolicy):
                self.begun.append(fingerprint(model.policy.program()))
            return (learn or really_learn)(model, *told, **also)

        def spied_bonus(guidance: Any, *told: Any) -> Any:
            self.warming.append(guidance.warming)
            self.weights.append(guidance.weight)
            self.holding.append(guidance.holds)
            return bonus(guidance, *told)

        def keeper(player: Any, *told: Any, **also: Any) -> Evaluation:
            self.programs.append(fingerprint(player.graph))
            # The third is the best.
            return Evaluation(np.array([9.0 if len(self.programs) == BEST else 1.0]), np.array([7]))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SEAMS["learn"], spied_learn)
            patch.setattr(SEAMS["bonus"], spied_bonus)
            patch.setattr(SEAMS["keeper"], keeper)
            recorded(folder, self.recorder, **{"then_ppo": STEPS, "training": TRAINING, **more})

    def _earned(self, player: Any, reinforced: float, stop: bool) -> float:
        if fingerprint(player.graph) in {fit.after for fit in self.recorder.fits}:
            return DISTILLED
        if stop:
            raise Stopped
        return reinforced

    @property
    def result(self) -> dict[str, Any]:
        """Content of `result.json`."""
        return self.recorder.result

    @property
    def distilled(self) -> str:
        """The student that was distilled."""
        return self.recorder.fits[-1].after


def student_in(folder: Path, name: str = "student") -> str:
    """The student of a run folder."""
    return fingerprint(load_policy(folder / f"{name}.safetensors").graph)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("then_ppo") / "run"


@pytest.fixture(scope="module")
def run(folder: Path) -> Reinforced:
    """A whole run in which PPO's student is better."""
    return Reinforced(folder, 110.0)


def test_ppo_begins_with_the_distilled_student_and_the_best_of_its_evaluations_is_returned(
    run: Reinforced, folder: Path
) -> None:
    assert run.begun == [run.distilled]
    assert len(set(run.programs)) == len(run.programs) > BEST
    assert student_in(folder) == run.programs[BEST - 1]
    assert student_in(folder, "distilled") == run.distilled
    assert {play.who for play in run.recorder.verdicts()} == {run.programs[BEST - 1]}
    then_ppo = run.result["then_ppo"]
    assert (then_ppo["kept"], then_ppo["steps"]) == ("reinforced", STEPS)
    assert (then_ppo["distilled"]["mean"], then_ppo["reinforced"]["mean"]) == (DISTILLED, 110.0)
    assert [one["mean"] for one in then_ppo["evaluations"]].index(9.0) == BEST - 1
    assert then_ppo["comparison"]["difference"] == 10.0
    assert then_ppo["overtook"] is (run.result["verdict"]["difference_ci"][0] > 0) is True


@pytest.mark.parametrize(
    ("earns", "what"),
    [(30.0, "worse"), (99.0, "no worse by more than a margin, and yet not better")],
)
def test_a_student_that_is_not_better_is_not_returned_and_that_is_said(earns: float, what: str, tmp_path: Path) -> None:
    run = Reinforced(tmp_path / "run", earns)
    assert student_in(tmp_path / "run") == run.distilled, what
    assert {play.who for play in run.recorder.verdicts()} == {run.distilled}
    assert not (tmp_path / "run" / "distilled.safetensors").exists()
    then_ppo = run.result["then_ppo"]
    assert (then_ppo["kept"], then_ppo["overtook"]) == ("distilled", False)
    assert then_ppo["reinforced"]["mean"] == earns
    [said] = [line for line in run.recorder.lines if line.startswith("then PPO: the ")]
    assert "the distilled student is kept, since the reinforced one is not shown to be as good" in said


def test_the_two_are_compared_on_episodes_that_nobody_else_plays(run: Reinforced) -> None:
    selection = run.recorder.on_seeds(SELECTION)
    assert {play.who for play in selection} == {run.distilled, run.programs[BEST - 1], None}
    others = {seed for play in run.recorder.plays if play not in selection for seed in play.seeds}
    mine = {seed for play in selection for seed in play.seeds}
    assert not mine & others
    assert mine == set(range(SELECTION, SELECTION + GIVEN["episodes"]))


def test_ppo_is_gentle_and_has_only_its_discounts_from_the_environments_settings(run: Reinforced) -> None:
    [model] = run.models
    assert (model.gamma, model.gae_lambda) == (0.9, 0.8)
    assert model.clip_range(1.0) < 0.9
    assert model.lr_schedule(1.0) < 0.01
    assert model.lr_schedule(0.0) == 0.0
    assert model.target_kl is not None
    assert model.policy.net_arch["vf"] == [64, 64]
    assert model.rollout_buffer._teacher is TEACHER  # type: ignore[attr-defined]
    assert model.seed != GIVEN["seed"]


def test_the_critic_warms_up_first_and_the_teacher_fades(run: Reinforced) -> None:
    assert np.mean(run.warming) == pytest.approx(0.1, abs=0.04)
    assert run.warming == sorted(run.warming, reverse=True)
    assert all(run.holding)
    assert run.weights[0] > 0
    assert run.weights == sorted(run.weights, reverse=True)
    assert run.weights[-1] == 0


def test_another_seed_reinforces_otherwise(run: Reinforced, tmp_path: Path) -> None:
    other = Reinforced(tmp_path / "run", 110.0, seed=GIVEN["seed"] + 1)
    assert other.models[0].seed != run.models[0].seed


def test_what_it_costs_is_booked_under_names_of_its_own(run: Reinforced) -> None:
    cost = run.result["cost"]
    assert cost["ppo_steps"] == STEPS
    selection = sum(10 * len(play.seeds) for play in run.recorder.on_seeds(SELECTION))
    assert cost["ppo_selection_steps"] == selection + 7 * len(run.programs)
    labels = sum(one.rollout.driver.size for one in run.recorder.rounds)
    assert cost["env_steps"] == cost["collect_steps"] == labels
    named = [cost[name] for name in cost if name.endswith("_steps") and name not in SUMS]
    assert cost["all_env_steps"] == sum(named)
    assert cost["ppo_s"] > 0


SUMS = ("env_steps", "all_env_steps", "gradient_steps")


def test_a_run_without_it_is_what_it_was(tmp_path: Path) -> None:
    run = recorded(tmp_path / "run")
    assert "then_ppo" not in run.result
    assert not [name for name in run.result["cost"] if name.startswith("ppo")]
    provenance = load_policy(tmp_path / "run" / "student.safetensors").graph.provenance
    assert "then_ppo" not in provenance["config"]


def test_a_run_that_is_stopped_in_ppo_does_not_distil_again(run: Reinforced, folder: Path, tmp_path: Path) -> None:
    def stopped(*told: Any, **also: Any) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        Reinforced(tmp_path / "run", 110.0, learn=stopped)
    with pytest.MonkeyPatch.context() as patch:
        # Nothing is fitted in the rest of the run: what was distilled has to be known from the first one.
        patch.setattr(Reinforced, "_earned", lambda self, player, reinforced, stop: _by(player, run))
        rest = Reinforced(tmp_path / "run", 110.0, resume=True)
    assert (rest.recorder.rounds, rest.recorder.fits) == ([], [])
    assert any("begins at its beginning; the distillation before it is kept" in line for line in rest.recorder.lines)
    assert rest.begun == run.begun
    _same(rest, tmp_path / "run", run, folder)


def test_a_run_that_is_stopped_after_ppo_does_not_train_again(run: Reinforced, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        Reinforced(tmp_path / "run", 110.0, stop_at_selection=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reinforced, "_earned", lambda self, player, reinforced, stop: _by(player, run))
        rest = Reinforced(tmp_path / "run", 110.0, resume=True)
    assert (rest.models, rest.programs) == ([], [])
    assert not any("begins at its beginning" in line for line in rest.recorder.lines)
    _same(rest, tmp_path / "run", run, folder)


def _by(player: Any, run: Reinforced) -> float:
    return DISTILLED if fingerprint(player.graph) == run.distilled else 110.0


def _same(rest: Reinforced, there: Path, run: Reinforced, here: Path) -> None:
    for name in ("student", "distilled"):
        assert student_in(there, name) == student_in(here, name)
    assert (there / "student.safetensors").read_bytes() == (here / "student.safetensors").read_bytes()
    assert rest.result["then_ppo"] == run.result["then_ppo"]
    for name, value in run.result["cost"].items():
        if name.endswith("_steps"):
            assert rest.result["cost"][name] == value, name


def test_of_several_seeds_each_is_reinforced_and_the_best_returned(tmp_path: Path) -> None:
    plain = {"loss": "kl", "teacher_layer": None, "student_layer": None}
    run = Reinforced(tmp_path / "run", 110.0, seeds=2, attempts=1, **plain)
    rows = run.result["seeds"]
    assert [row["then_ppo"]["kept"] for row in rows] == ["reinforced"] * 2
    assert [row["score"] for row in rows] == pytest.approx([0.5, 0.5])
    assert len(run.models) == 2
    assert run.models[0].seed != run.models[1].seed
    assert run.result["cost"]["ppo_steps"] == 2 * STEPS


def test_a_control_is_trained_for_ppos_steps_too(tmp_path: Path) -> None:
    totals: list[int] = []
    really_learn = original("learn")

    def learn(model: PPO, total: int, **also: Any) -> Any:
        totals.append(total)
        return really_learn(model, total, **also)

    run = Reinforced(tmp_path / "run", 110.0, learn=learn, control=True)
    cost = run.result["cost"]
    paid = sum(cost[name] for name in ("collect_steps", "validation_steps", "ppo_steps", "ppo_selection_steps"))
    assert 0 <= totals[1] - paid < 16 * 1024


def test_a_search_finds_its_size_first_and_the_verdict_is_on_what_is_returned(tmp_path: Path) -> None:
    plain = {"loss": "kl", "teacher_layer": None, "student_layer": None}
    run = Reinforced(tmp_path / "run", 110.0, search_size=True, hidden=[3], attempts=2, **plain)
    assert run.result["then_ppo"]["kept"] == "reinforced"
    judged = [play.who for play in run.recorder.verdicts()]
    assert judged[0] == run.begun[0]
    assert judged[-1] == student_in(tmp_path / "run") == run.programs[BEST - 1]
    assert run.result["student"]["mean"] == 110.0
