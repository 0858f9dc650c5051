"""PPO goes on from a student of every action space that it can be trained in; anything else is refused in one line."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import masked_agents
import numpy as np
import pytest
from recorder import a_teacher
from samples import HEADS, PROBES, Agent, make_student, settings
from small_agents import Fake

from kd_agent import KDError, distill, load_policy
from kd_agent.distillation.outcome import Result
from kd_agent.distillation.problem import Problem
from kd_agent.distillation.then_ppo import Choice, say_overtook
from kd_agent.evaluation import compare
from kd_agent.networks import Origin
from kd_agent.runs import RunFolder
from kd_agent.settings import DistillConfig, resolve
from kd_agent.teachers import GraphTeacher

STEPS = 320


def teacher_of(kind: str, student: str = "mlp") -> GraphTeacher:
    """A teacher of one head without a file."""
    graph = make_student(HEADS[kind], student, hidden=(6,), seed=4).graph()
    return GraphTeacher(graph, Origin("a teacher", "0" * 64, "student", 100))


@pytest.fixture(scope="module")
def run(agents: dict[str, Agent], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A whole run of continuous actions."""
    folder = tmp_path_factory.mktemp("then_ppo") / "run"
    return folder, dict(distill({**settings(agents["Box"], folder), "then_ppo": STEPS}))


def test_the_result_says_what_came_of_it(run: tuple[Path, dict[str, Any]]) -> None:
    folder, result = run
    assert json.loads((folder / "result.json").read_text()) == result
    then_ppo = result["then_ppo"]
    keys = {"steps", "evaluations", "kept", "comparison", "distilled", "reinforced", "overtook"}
    assert set(then_ppo) == keys
    assert then_ppo["steps"] == result["cost"]["ppo_steps"] == STEPS
    assert [one["steps"] for one in then_ppo["evaluations"]] == sorted(one["steps"] for one in then_ppo["evaluations"])
    assert then_ppo["evaluations"][-1]["steps"] == STEPS
    assert then_ppo["comparison"]["episodes"] == len(then_ppo["distilled"]["returns"])
    # Six episodes prove nothing: the student of which it is not shown is not returned.
    assert (then_ppo["kept"], then_ppo["comparison"]["decision"]) == ("distilled", "undecided")
    assert RunFolder(folder).holds_checkpoint("reinforced")
    assert Result(result, folder).figures()["then PPO"] == f"distilled student kept after {STEPS} steps"
    page = (folder / "report.html").read_text()
    assert (
        f"PPO went on from the distilled student for {STEPS} environment steps, and the distilled student was" in page
    )
    assert f"the reinforced one has a mean of {then_ppo['reinforced']['mean']:.1f}" in page
    assert f"against a margin of {then_ppo['comparison']['margin']:.1f} that is undecided" in page


def test_the_student_that_is_kept_is_that_of_the_run_without_ppo(
    run: tuple[Path, dict[str, Any]], runs: dict[str, tuple[Path, dict[str, Any]]], agents: dict[str, Agent]
) -> None:
    states = agents["Box"].observations()
    assert "PPO" not in (runs["Box"][0] / "report.html").read_text().replace("(PPO)", "")
    kept, plain = (load_policy(folder / "student.safetensors").params(states) for folder in (run[0], runs["Box"][0]))
    np.testing.assert_array_equal(kept, plain)


@pytest.mark.parametrize("space", ["Discrete", "MultiDiscrete", "MultiBinary"])
def test_ppo_goes_on_from_a_student_of_every_listed_space(space: str, agents: dict[str, Agent], tmp_path: Path) -> None:
    result = distill({**settings(agents[space], tmp_path / "run"), "then_ppo": STEPS})
    assert result["then_ppo"]["steps"] == STEPS


def test_a_squashed_student_is_trained_before_the_squash_and_stays_a_squashed_one(tmp_path: Path) -> None:
    """MuJoCo's observations are of float64, and SAC's actions are squashed: both at once, as in Hopper."""
    given = {**settings(Agent(None, tmp_path, PROBES["Box"]), tmp_path / "run"), "teacher": (), "env": ENV}
    result = distill({**given, "then_ppo": STEPS}, teacher=teacher_of("squashed_gaussian"))
    assert result["then_ppo"]["steps"] == STEPS
    assert load_policy(tmp_path / "run" / "student.safetensors").graph.head.kind == "squashed_gaussian"


ENV = "ThenPPOFloat64-v0"


@pytest.fixture(autouse=True)
def float64_env(register_env: Any) -> None:
    """Observations of float64, and the bounds of the squashed head."""
    spec = HEADS["squashed_gaussian"].spec
    actions = gym.spaces.Box(np.float32(spec.low), np.float32(spec.high))
    register_env(ENV, lambda: Fake(gym.spaces.Box(-1, 1, (4,), np.float64), actions), max_episode_steps=20)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"then_ppo": 0}, "then_ppo: 0 .* greater than 0|then_ppo"),
    ({"student": "tree"}, "--then-ppo trains mlp students, not a tree: leave it out, or ask for --student mlp"),
    ({"student": "gru"}, "--then-ppo trains mlp students, not a gru"),
    ({"env": "kd_envs/CartPolePixels-v1"}, "--then-ppo trains mlp students, not a cnn"),
    ({"sampled": True}, "leave out --sampled"),
    ({"env": "kd_envs/ProbeDict-v0"}, "--then-ppo trains students that see a Box of numbers, not Dict"),
    ({"env": "kd_envs/ProbeDict-v0", "student_keys": ["half"]}, "see all of one environment: leave out --student-keys"),
    ({"env": "CliffWalking-v1"}, r"--then-ppo trains students that see a Box of numbers, not Discrete\(48\)"),
]


@pytest.mark.parametrize(("more", "said"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_ppo_cannot_go_on_with_is_refused_before_a_teacher_is_trained(
    more: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KDError, match=said):
        distill({"env": PROBES["Discrete"], "then_ppo": 100, "out": "run", "quiet": True, **more})
    assert list(tmp_path.iterdir()) == []


def test_a_teacher_that_cannot_guide_is_refused(tmp_path: Path) -> None:
    config = resolve(DistillConfig, {"env": PROBES["Discrete"], "then_ppo": 100, "student": "mlp"})
    Problem.of(config, a_teacher())
    with pytest.raises(KDError, match="a teacher with a memory cannot guide PPO: leave out --then-ppo"):
        Problem.of(config, teacher_of("categorical", "gru"))
    with pytest.raises(KDError, match="--then-ppo trains mlp students, not a gru"):
        Problem.of(replace(config, student=None), teacher_of("categorical", "gru"))
    masked = str(masked_agents.agent("Discrete").path)
    with pytest.raises(KDError, match="plays with action masks, and PPO has none: leave out --then-ppo"):
        distill({"env": masked_agents.IDS["Discrete"], "teacher": masked, "then_ppo": 100, "out": str(tmp_path / "r")})
    assert not (tmp_path / "r").exists()


def choice(distilled: list[float], reinforced: list[float]) -> Choice:
    """The choice on these returns."""
    return Choice(compare(distilled, reinforced, [0.0] * 20), distilled, reinforced)


def test_the_reinforced_student_is_kept_only_where_neither_part_is_lost_and_the_mean_is_not_lower() -> None:
    good = [100.0 + number % 7 for number in range(100)]
    better = [score + 20 for score in good]
    assert choice(good, better).kept == "reinforced"
    assert choice(good, good).kept == "reinforced"
    slightly_worse = choice(good, [score - 0.5 for score in good])
    assert slightly_worse.verdict.non_inferior
    assert slightly_worse.kept == "distilled"
    # A higher mean, but it falls in a tenth of its episodes.
    falls = choice(good, [score + 40 if number % 10 else 0.0 for number, score in enumerate(good)])
    assert falls.verdict.difference > 0
    assert falls.kept == "distilled"
    assert choice(good[:20], better[:20]).kept == "distilled", "too few episodes to show it"


def test_the_sentence_says_which_is_kept_and_by_how_much() -> None:
    good = [100.0 + number % 7 for number in range(100)]
    said = choice(good, [score + 20 for score in good]).sentence()
    assert said.startswith(
        "then PPO: the reinforced student is kept: reinforced 123.0, distilled 103.0, difference +20.0"
    )
    assert said.endswith("non-inferior after 100 episodes")


@pytest.mark.parametrize(("low", "overtook"), [(0.1, True), (0.0, False), (-3.0, False)])
def test_a_teacher_is_overtaken_where_the_interval_excludes_zero(low: float, overtook: bool) -> None:
    result: dict[str, Any] = {"then_ppo": {}, "verdict": {"difference_ci": [low, 9.0]}}
    say_overtook(result)
    assert result["then_ppo"]["overtook"] is overtook
    plain: dict[str, Any] = {"verdict": {"difference_ci": [low, 9.0]}}
    say_overtook(plain)
    assert "then_ppo" not in plain
