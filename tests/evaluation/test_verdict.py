"""The verdict: what `result.json` says of teacher, student and random policy, and `evaluate` of a file."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from kd_envs.probe import ProbeEnv
from prepared_runs import begun
from recorder import TEACHER, Recorder
from samples import HEADS, PROBES, make_student

from kd_agent import KDError
from kd_agent.evaluation import (
    EVALUATION_SEED,
    compare,
    evaluate_file,
    judge,
    scores,
    verdict_episodes,
    verdict_figures,
    verdict_looks,
)
from kd_agent.evaluation.verdict import over_seeds
from kd_agent.settings import EvaluateConfig, resolve


def test_arguments_asked_for_win_over_those_that_a_students_file_records(
    tmp_path: Path, register_env: Callable[..., str]
) -> None:
    class Paying(ProbeEnv):
        """Pays a fixed wage instead."""

        def __init__(self, wage: float = 1.0, bonus: float = 0.0, render_mode: str | None = None) -> None:
            super().__init__("Discrete", render_mode)
            self.wage = wage + bonus

        def step(self, action: Any) -> Any:
            observation, _, *rest = super().step(action)
            return observation, self.wage, *rest

    env_id = register_env("Paying-v0", Paying, max_episode_steps=5)
    recipe = {"env_id": env_id, "env_kwargs": {"wage": 2.0, "bonus": 0.5}, "wrappers": [], "frame_stack": 1}
    student = make_student(HEADS["categorical"])
    path = str(student.save(tmp_path / "s.safetensors", {"env": env_id, "recipe": recipe}))
    played = {"student": path, "teacher": path, "episodes": 2, "quiet": True}
    assert evaluate_file(resolve(EvaluateConfig, played))["student"]["returns"] == [12.5, 12.5]
    result = evaluate_file(resolve(EvaluateConfig, {**played, "env_kwargs": {"wage": 3.0}}))
    assert result["student"]["returns"] == result[path]["returns"] == [17.5, 17.5]


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Recorder, dict[str, Any]]]:
    """Judges a student that earns what a test says by the seed of its episode."""

    def work(earned: Callable[[int], float], **settings: Any) -> tuple[Recorder, dict[str, Any]]:
        recorder = Recorder(verdict=earned)
        recorder.install(monkeypatch)
        path = make_student(TEACHER.head, hidden=(5,)).save(tmp_path / "s.safetensors", {"env": PROBES["Discrete"]})
        with begun(tmp_path / "run", **{"episodes": 90, "max_episodes": 120, **settings}) as run:
            return recorder, judge(run, path)

    return work


def test_a_result_says_who_played_and_how_they_compare(judged: Any, tmp_path: Path) -> None:
    recorder, result = judged(lambda seed: 99.75, seed=3)
    raw = (tmp_path / "s.safetensors").read_bytes()
    assert (result["format"], result["env"], result["seed"]) == (2, PROBES["Discrete"], 3)
    student = result["student"]
    assert (student["file"], student["bytes"]) == ("s.safetensors", len(raw))
    assert student["sha256"] == sha256(raw).hexdigest()
    assert student["parameters"] == 4 * 5 + 5 + 5 * 4 + 4
    assert student == {**student, **scores([99.75] * 90)}
    assert student["failures"] == 1
    assert student["worst"] == [{"seed": EVALUATION_SEED + number, "return": 99.75} for number in range(5)]
    assert result["teacher"]["parameters"] == TEACHER.origin.num_parameters
    assert result["teacher"] == {**result["teacher"], **scores([100.0] * 90)}
    assert result["random"] == scores([0.0] * 40)
    assert result["verdict"]["compression"] == pytest.approx(1000 / 49)
    assert "teachers" not in result
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert {seed for play in recorder.plays for seed in play.seeds} == set(range(EVALUATION_SEED, EVALUATION_SEED + 90))


def test_the_verdict_of_a_result_has_both_parts_and_says_why(judged: Any) -> None:
    def earned(seed: int) -> float:
        return 99.0 if seed % 2 else 100.0

    _, result = judged(earned)
    returns = [earned(EVALUATION_SEED + number) for number in range(90)]
    expected = compare([100.0] * 90, returns, [0.0] * 40, error=0.02)
    verdict = result["verdict"]
    assert verdict == {**verdict, **verdict_figures(expected)}
    assert (verdict["non_inferior"], verdict["decision"], verdict["episodes"]) == (True, "non-inferior", 90)
    for name, part in (("mean", expected.mean), ("lower_tail", expected.lower_tail)):
        assert verdict[name] == {
            "difference": part.difference,
            "difference_ci": list(part.difference_ci),
            "bounds": list(part.bounds),
            "margin": part.margin,
            "decision": part.decision,
        }
    assert verdict["mean"] != verdict["lower_tail"]
    for name in ("difference", "difference_ci", "margin"):
        assert verdict[name] == verdict["mean"][name], "the first format has those of one part"
    assert (verdict["error"], verdict["level"]) == (0.02, 0.95)
    assert verdict["reasons"] == list(expected.reasons)
    assert verdict["looks"] == 8, "after 20, 30, ... 80 and 90 episodes"


def test_an_open_verdict_costs_more_episodes_and_the_teacher_plays_them_too(judged: Any) -> None:
    _, result = judged(lambda seed: 120.0 if seed % 2 else 70.0)
    assert (result["verdict"]["decision"], result["verdict"]["episodes"]) == ("undecided", 120)
    assert len(result["teacher"]["returns"]) == len(result["student"]["returns"]) == 120
    assert result["verdict"]["looks"] == 9


def test_a_bad_student_is_known_early(judged: Any) -> None:
    _, result = judged(lambda seed: 20.0)
    assert (result["verdict"]["decision"], result["verdict"]["episodes"]) == ("inferior", 20)
    assert result["verdict"]["looks"] == 1


def test_a_student_that_crashes_is_not_good_however_good_it_is_otherwise(judged: Any) -> None:
    _, result = judged(lambda seed: -80.0 if seed % 8 == 0 else 140.0)
    verdict = result["verdict"]
    assert verdict["difference"] > 5
    assert verdict["decision"] == verdict["lower_tail"]["decision"] == "inferior"
    assert result["student"]["failures"] == pytest.approx(1 / 8, abs=0.05)


def test_a_verdict_has_the_looks_of_a_run(tmp_path: Path) -> None:
    with begun(tmp_path / "run", episodes=40, max_episodes=60) as run:
        assert verdict_looks(run) == [(20, 0.0001), (30, 0.0001), (40, 0.02), (50, 0.0025), (60, 0.0025)]


def test_the_verdict_in_one_line_has_both_parts(judged: Any) -> None:
    recorder, _ = judged(lambda seed: 99.7)
    said = "\n".join(recorder.lines)
    assert "non-inferior: student 99.7 (49 parameters), teacher 100.0 (1,000), difference -0.3 [-0.3, -0.3]" in said
    assert "against a margin of 5.0; worst tenth 99.7 of 100.0, -0.3 against 50.0; 90 episodes, greedy; KL" in said


def test_the_verdict_over_several_seeds_in_one_line_names_all_students_and_which_is_kept() -> None:
    def student(mean: float, tail: float, non_inferior: bool) -> dict[str, Any]:
        return {"student": {"mean": mean, "lower_tail": tail}, "verdict": {"non_inferior": non_inferior}}

    verdict = {"decision": "undecided", "difference": -6.04, "difference_ci": [-9.0, -3.0], "margin": 5.0,
               "episodes": 120}  # fmt: skip
    result = {
        "verdict": verdict,
        "teacher": {"mean": 100.0, "lower_tail": 80.0},
        "seeds": [student(99.0, 79.0, True), student(84.0, 40.0, False), student(99.9, 81.0, True)],
        "kept_seed": 5,
    }
    assert over_seeds(result) == (
        "undecided over 3 seeds: students 99.0, 84.0, 99.9, teacher 100.0, difference -6.0 [-9.0, -3.0] against a "
        "margin of 5.0; worst tenths 79.0, 40.0, 81.0 of 80.0; 120 episodes; 2 of 3 are non-inferior by themselves; "
        "kept is that of seed 5, the best in its validation"
    )


def test_the_seeds_of_a_verdict_do_not_hang_on_the_runs_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    recorder.install(monkeypatch)
    for seed in (0, 1):
        with begun(tmp_path / str(seed), seed=seed) as run:
            verdict_episodes(run).teacher_returns(3)
    assert [play.seeds for play in recorder.plays] == [[EVALUATION_SEED + n for n in range(3)]] * 2


def evaluated(tmp_path: Path, **more: Any) -> dict[str, Any]:
    path = make_student(HEADS["categorical"]).save(tmp_path / "s.safetensors", {"env": PROBES["Discrete"]})
    return evaluate_file(resolve(EvaluateConfig, {"student": str(path), "episodes": 3, "quiet": True, **more}))


def test_a_file_is_played_greedily_on_the_verdicts_seeds_unless_otherwise_asked(tmp_path: Path) -> None:
    found, sampled = evaluated(tmp_path), evaluated(tmp_path, sampled=True)
    assert found["seeds"] == [EVALUATION_SEED, EVALUATION_SEED + 3]
    assert (found["deterministic"], sampled["deterministic"]) == (True, False)
    assert found["student"]["returns"] != sampled["student"]["returns"]
    assert found == evaluated(tmp_path)


def test_a_file_of_another_environment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KDError, match="acts by categorical"):
        evaluated(tmp_path, env="CartPole-v1")
