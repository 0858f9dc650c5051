"""Explanations: known answers on the probes, where a student is wrong, and what is written of it."""

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from exported import tree_op
from samples import HEADS, PROBES, Agent, make_graph, make_student

from kd_agent import KDError
from kd_agent.commands import cli
from kd_agent.environments.recipe import Recipe, recipe_of
from kd_agent.explanations.features import Feature, features_of, grid
from kd_agent.explanations.saliency import (
    Disagreement,
    NearTies,
    decision_gap,
    disagreements,
    divergence,
    effects,
    near_ties,
    rank_correlation,
    saliency,
)
from kd_agent.explanations.visited_states import Visited, read, typical, visit
from kd_agent.networks.base import Origin
from kd_agent.networks.distributions import ActionHead, head_for
from kd_agent.policies import file as graph_file
from kd_agent.policies.graph import ObservationSpec, Op, PolicyGraph
from kd_agent.policies.head import HeadSpec
from kd_agent.policies.policy import Policy
from kd_agent.teachers import GraphTeacher

FOUR = {"obs": ObservationSpec((4,), "float32")}
RECIPE = recipe_of(PROBES["Discrete"])


def quiet(done: int, **figures: float) -> None:
    """Shows nothing."""


def linear(source: str, output: str, weight: Any, bias: Any = None) -> Op:
    w = np.asarray(weight, np.float32)
    return Op("linear", (source,), output, {}, {"weight": w, "bias": np.zeros(len(w), "f") if bias is None else bias})


def graph_of(weight: Any, head: HeadSpec | None = None, bias: Any = None) -> PolicyGraph:
    """A policy whose row is linear in the observation."""
    return PolicyGraph(FOUR, (linear("obs", "params", weight, bias),), head or HEADS["categorical"].spec)


def teacher_of(graph: PolicyGraph) -> GraphTeacher:
    return GraphTeacher(graph, Origin("t.safetensors", "0" * 64, "known", graph.num_parameters))


def visited_by(teacher: GraphTeacher, student: Policy, recipe: Recipe = RECIPE, states: int = 3200) -> Visited:
    return visit(teacher, student, recipe, states=states, seed=0, advance=quiet)


def measured(graph: PolicyGraph, visited: Visited) -> Any:
    """KL and changes without each feature, and the saliencies."""
    at = np.arange(len(visited.starts))
    kl, changed = effects(
        read(Policy(graph), visited), ActionHead(graph.head), features_of(graph.observations), visited, at
    )
    return kl, changed, saliency(kl, changed, visited.episode)


@pytest.fixture(scope="module")
def probe() -> Visited:
    """States of the Discrete probe: uniform in [-1, 1]^4."""
    graph = graph_of(5 * np.eye(4))
    return visited_by(teacher_of(graph), Policy(graph))


def test_the_two_features_that_matter_in_the_box_probe_have_the_kl_of_the_formula_and_the_others_none() -> None:
    weight = np.zeros((4, 4))
    weight[0, 0] = weight[1, 1] = 2
    graph = graph_of(weight, HEADS["diag_gaussian"].spec)
    visited = visited_by(teacher_of(graph), Policy(graph), recipe_of(PROBES["Box"]))
    _, _, found = measured(graph, visited)
    for feature in found[:2]:
        assert feature.kl == pytest.approx(4 / 3, rel=0.05)  # E[(2x - 2x')^2] / 2 for x, x' uniform in [-1, 1]
        assert feature.kl_ci[0] < feature.kl < feature.kl_ci[1] < 1.1 * feature.kl
        assert feature.changed > 0.5
    assert [(s.kl, s.kl_ci, s.changed) for s in found[2:]] == [(0, (0, 0), 0)] * 2


def test_features_are_ranked_by_their_weight_and_opposite_students_by_minus_one(probe: Visited) -> None:
    first, _, found = measured(graph_of(np.diag([4, 2, 1, 0.5])), probe)
    second, _, _ = measured(graph_of(np.diag([0.5, 1, 2, 4])), probe)
    kl = [s.kl for s in found]
    assert kl == sorted(kl, reverse=True)
    assert kl[0] > 4 * kl[2]
    assert rank_correlation(first, second, probe.episode) == (-1, (-1, -1))
    assert rank_correlation(first, first, probe.episode) == (1, (1, 1))


def test_a_rank_correlation_needs_three_features_that_differ(probe: Visited) -> None:
    kl, _, _ = measured(graph_of(np.diag([4, 2, 1, 0.5])), probe)
    assert rank_correlation(kl[:2], kl[:2], probe.episode) is None
    assert rank_correlation(kl, np.zeros_like(kl), probe.episode) is None


def test_an_interval_is_as_wide_as_episodes_differ_not_as_states_do() -> None:
    episode = np.repeat(np.arange(10), 100)
    by_episode = (episode % 2).astype(float)[None]
    by_state = (np.arange(1000) % 2).astype(float)[None]
    wide, narrow = (saliency(kl, kl, episode)[0] for kl in (by_episode, by_state))
    assert wide.kl == narrow.kl == 0.5
    assert narrow.kl_ci == (0.5, 0.5)
    assert wide.kl_ci[0] < 0.3
    assert wide.kl_ci[1] > 0.7


def wrong_where_the_last_is_large() -> PolicyGraph:
    """The Discrete probe's answer, but action 0 where the last number passes 0.9."""
    hidden = linear("obs", "sums", [*np.eye(4), [0, 0, 0, 1]], np.float32([1, 1, 1, 1, -0.9]))
    positive = Op("activation", ("sums",), "parts", {"function": "relu"})
    out = np.hstack([5 * np.eye(4), [[300], [0], [0], [0]]])
    return PolicyGraph(FOUR, (hidden, positive, linear("parts", "params", out)), HEADS["categorical"].spec)


def test_a_student_that_is_wrong_in_one_region_is_found_there() -> None:
    teacher, student = teacher_of(graph_of(5 * np.eye(4))), Policy(wrong_where_the_last_is_large())
    visited = visited_by(teacher, student)
    p, q = read(teacher, visited), read(student, visited)
    found = disagreements(p, q, teacher.head, features_of(FOUR), visited, top=20)
    assert len(found) == 20
    assert all(d.observation["x[3]"] > 0.9 for d in found)
    assert {d.feature for d in found} == {"x[3]"}
    assert all((d.student.action, d.value) == (0, d.observation["x[3]"]) for d in found)
    assert [d.differs for d in found] == [d.teacher.action != 0 for d in found]
    assert all(abs(d.typical or 0) < 0.1 and d.kl_without < 1e-6 < d.kl for d in found)
    kl = divergence(teacher.head, p.rows, q.rows)
    assert [d.kl for d in found] == sorted(kl, reverse=True)[:20]
    outside = visited.observations["obs"][:, 3] <= 0.9
    assert kl[outside].max() < 1e-5
    assert 0.02 < 1 - outside.mean() < 0.08


def test_a_disagreement_is_found_again_by_its_seed_and_step() -> None:
    teacher, student = teacher_of(graph_of(5 * np.eye(4))), Policy(wrong_where_the_last_is_large())
    visited = visited_by(teacher, student)
    found = disagreements(
        read(teacher, visited), read(student, visited), teacher.head, features_of(FOUR), visited, top=5
    )
    assert max(d.step for d in found) > 0
    for d in found:
        env = gym.make(RECIPE.env_id)
        observation, _ = env.reset(seed=d.seed)
        for _ in range(d.step):
            observation, *_ = env.step(student.act(observation))
        np.testing.assert_allclose(observation, list(d.observation.values()), rtol=1e-6)


def test_the_episodes_of_the_states_are_counted_and_begin_at_step_nought(probe: Visited) -> None:
    np.testing.assert_array_equal(probe.step == 0, probe.starts)
    assert probe.step.max() == 49
    assert probe.episode[-1] + 1 == probe.starts.sum() == len(np.unique(probe.seed)) == 16 * 4


def test_the_gap_is_that_between_the_teachers_two_best_actions() -> None:
    p = np.log(np.float32([[0.5, 0.3, 0.15, 0.05], [0.26, 0.25, 0.25, 0.24]]))
    q = np.log(np.float32([[0.1, 0.8, 0.05, 0.05], [0.26, 0.25, 0.25, 0.24]]))
    np.testing.assert_allclose(decision_gap(HEADS["categorical"], p, q), [0.2, 0.01], atol=1e-6)
    assert decision_gap(HEADS["diag_gaussian"], p, q) is None


def test_the_gap_of_several_parts_is_the_clearest_that_the_student_misses_else_the_least_clear() -> None:
    head = HEADS["bernoulli"]
    logit = np.log(np.float32([0.9, 0.6, 0.51]) / np.float32([0.1, 0.4, 0.49]))
    other = np.stack([logit, logit * [1, -1, -1], logit * [-1, 1, 1]]).astype("f")
    gap = decision_gap(head, np.stack([logit] * 3), other)
    np.testing.assert_allclose(gap, [0.02, 0.2, 0.8], atol=1e-5)


def test_shares_of_near_ties_are_those_of_states_of_kl_and_of_disagreements() -> None:
    gap, kl = np.array([0.05, 0.05, 0.5, 0.5]), np.array([1.0, 0, 3, 0])
    differs, episode = np.array([True, True, True, False]), np.arange(4)
    ties = near_ties(gap, kl, differs, episode)
    assert (ties.states, ties.kl, ties.disagreements, ties.differing) == (0.5, 0.25, pytest.approx(2 / 3), 3)
    assert ties.disagreements_ci is not None
    assert 0 <= ties.disagreements_ci[0] < 2 / 3 < ties.disagreements_ci[1] <= 1
    none = near_ties(gap, 0 * kl, differs & False, episode)
    assert none == NearTies(0.5, none.states_ci, None, None, None, None, 0)


def test_a_memory_is_held_while_what_is_read_now_is_exchanged() -> None:
    graph = make_student(HEADS["categorical"], "gru").graph({"env": PROBES["Discrete"]})
    teacher, student = teacher_of(graph), Policy(graph)
    visited = visited_by(teacher, student, states=320)
    for reading in (read(teacher, visited), read(student, visited)):
        rows, memory = [], None
        for step in range(20):
            now = np.arange(16) * 20 + step
            row, memory = student.step_batch({"obs": visited.observations["obs"][now]}, memory, visited.starts[now])
            rows.append(row)
        np.testing.assert_allclose(reading.rows.reshape(16, 20, -1).swapaxes(0, 1), rows, atol=1e-6)
        one = reading.ask({"obs": visited.observations["obs"][[37]]}, np.array([37]))
        np.testing.assert_allclose(one[0], reading.rows[37], atol=1e-6)
        kl, _ = effects(reading, teacher.head, features_of(FOUR), visited, np.arange(320))
        assert (kl.mean(1) > 1e-6).all()


def test_only_the_patch_that_a_policy_sees_has_saliency() -> None:
    spec = {"image": ObservationSpec((20, 16, 3), "uint8")}
    weight = np.zeros((4, 960), np.float32)
    pixel = np.ravel_multi_index((11, 5, 2), (20, 16, 3))
    weight[0, pixel] = 0.05
    ops = (Op("flatten", ("image",), "flat"), linear("flat", "params", weight))
    graph = PolicyGraph(spec, ops, HEADS["categorical"].spec)
    image = np.random.default_rng(0).integers(0, 256, (60, 20, 16, 3)).astype(np.uint8)
    states = np.arange(60)
    visited = Visited({"image": image}, states == 0, states // 20, states // 20, states % 20, 60)
    features = features_of(spec)
    kl, _ = effects(read(Policy(graph), visited), HEADS["categorical"], features, visited, states)
    seen = [f.cell for f, effect in zip(features, kl, strict=True) if effect.any()]
    assert seen == [(11 * 8 // 20, 5 * 8 // 16)]
    assert grid(spec["image"]) == (8, 8)


@pytest.mark.parametrize("shape", [(20, 17, 3), (1, 84, 84), (5, 9, 3)])
def test_every_pixel_is_in_one_patch(shape: tuple[int, ...]) -> None:
    covered = np.zeros(shape, int)
    for feature in features_of({"image": ObservationSpec(shape, "uint8")}):
        covered[feature.where] += 1
    assert (covered == 1).all()


def test_what_is_typical_is_the_median_or_the_most_frequent_category() -> None:
    observations = {"x": np.float32([[1], [2], [9]]), "kind": np.array([4, 0, 4])}
    three = np.arange(3)
    visited = Visited(observations, three == 0, three * 0, three, three, 3)
    assert typical(Feature("x", "x", (0,)), visited) == 2
    assert typical(Feature("kind", "kind", ()), visited) == 4


def test_features_have_the_names_of_the_environment_or_those_given() -> None:
    eight = {"obs": ObservationSpec((8,), "float32")}
    names = [f.name for f in features_of(eight, "LunarLanderContinuous-v3")]
    assert names[:3] == ["x", "y", "x velocity"]
    assert [f.name for f in features_of(FOUR, "CartPole-v1")][2] == "pole angle"
    assert [f.name for f in features_of(FOUR, "LunarLander-v3")] == ["x[0]", "x[1]", "x[2]", "x[3]"]
    assert [f.name for f in features_of(FOUR, "CartPole-v1", ["a", "b", "c", "d"])] == ["a", "b", "c", "d"]
    several = {"joints": ObservationSpec((2, 1), "float32"), "n": ObservationSpec((), "int64", (3,))}
    assert [f.name for f in features_of(several)] == ["joints[0, 0]", "joints[1, 0]", "n"]


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of saved policies; the process's handlers stay as they were."""
    monkeypatch.setattr(cli.signal, "signal", lambda *arguments: None)
    monkeypatch.setattr(cli.warnings, "showwarning", cli.warnings.showwarning)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "inputs"
    folder.mkdir()
    env = {"env": PROBES["Discrete"]}
    make_student(HEADS["categorical"], hidden=(5,)).save(folder / "student.safetensors", env)
    make_student(HEADS["categorical"], hidden=(7,), seed=3).save(folder / "teacher.safetensors", env)
    graph_file.write(make_graph("diag_gaussian"), folder / "box.safetensors")
    return folder


def explained(folder: Path, *flags: str, student: str = "student") -> dict[str, Any]:
    argv = [str(folder / f"{student}.safetensors"), "--teacher", str(folder / "teacher.safetensors"), "--no-progress"]
    assert cli.run("explain", [*argv, "--states", "320", *flags]) == 0
    return dict(json.loads((folder / "explanation.json").read_text()))


def test_the_explanation_has_its_layout_and_is_the_same_again(inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = explained(inputs, "--top", "3")
    out, err = capsys.readouterr()
    assert err.count("kd_agent: ") == 2
    assert "agreement" in out
    assert all(f"\nx[{i}] " in out for i in range(4))
    assert set(result) == {"format", "env", "seed", "states", "episodes", "teacher", "student", "kl", "kl_uniform",
                           "agreement", "near_ties", "head", "actions", "saliency", "disagreements",
                           "rules"}  # fmt: skip
    assert (result["format"], result["env"], result["states"], result["episodes"]) == (1, PROBES["Discrete"], 320, 16)
    assert result["actions"] == ["0", "1", "2", "3"]
    for feature in result["saliency"]["features"]:
        for who in ("teacher", "student"):
            assert 0 < feature[who]["kl_ci"][0] <= feature[who]["kl"] <= feature[who]["kl_ci"][1]
    assert len(result["disagreements"]) == 3
    assert set(result["disagreements"][0]) == set(Disagreement.__dataclass_fields__)
    assert set(result["near_ties"]) == {*NearTies.__dataclass_fields__, "gap"}
    assert explained(inputs, "--top", "3", "--quiet") == result
    assert capsys.readouterr() == (out, "")


def test_names_from_anybody_are_escaped_in_the_page(inputs: Path) -> None:
    hostile = ["<script>alert(1)</script>", '"><img src=x>', "$x^2$ & {{ 7*7 }}", "plain"]
    result = explained(inputs, "--names", *hostile)
    assert [f["name"] for f in result["saliency"]["features"]] == hostile
    page = (inputs / "explanation.html").read_text()
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page
    assert "{{ 7*7 }}" in page
    assert "http" not in page


def test_the_rules_of_a_tree_are_part_of_the_explanation(inputs: Path) -> None:
    op = tree_op("obs", "params", leaves=5, features=4, width=4)
    tree = PolicyGraph(FOUR, (op,), HEADS["categorical"].spec, {"env": PROBES["Discrete"]})
    graph_file.write(tree, inputs / "tree.safetensors")
    result = explained(inputs, "--names", "<a>", "b", "c", "d", student="tree")
    assert "<a> <= " in result["rules"]
    page = (inputs / "explanation.html").read_text()
    assert "&lt;a&gt; &lt;= " in page
    assert "<a>" not in page
    assert explained(inputs)["rules"] is None


def test_what_one_of_the_two_does_not_see_has_no_saliency_for_it(inputs: Path) -> None:
    env = {"env": "kd_envs/ProbeDict-v0", "config": {"teacher_keys": ["all"]}}
    half = {"half": ObservationSpec((2,), "float32")}
    make_student(HEADS["categorical"], observations=half).save(inputs / "half.safetensors", env)
    result = explained(inputs, student="half")
    seen = {f["name"]: (bool(f["teacher"]), bool(f["student"])) for f in result["saliency"]["features"]}
    assert seen == {f"half[{i}]": (False, True) for i in range(2)} | {f"all[{i}]": (True, False) for i in range(4)}
    assert result["saliency"]["rank_correlation"] is None
    assert "does not see it" in (inputs / "explanation.html").read_text()


@pytest.mark.parametrize("space", ["Box", "MultiDiscrete", "MultiBinary"])
def test_every_action_space_is_explained(
    space: str, agents: dict[str, Agent], inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = agents[space]
    student = make_student(head_for(agent.model.action_space))
    path = student.save(inputs / "s.safetensors", {"env": agent.env_id, "teacher_sha256": "1" * 64})
    argv = [str(path), "--teacher", str(agent.path), "--states", "320", "--quiet"]
    assert cli.run("explain", argv) == 0
    assert capsys.readouterr().err == (
        f"kd-agent: warning: {path} was distilled from another teacher than {agent.path}\n"
    )
    result = json.loads((inputs / "explanation.json").read_text())
    assert result["actions"] is None
    assert (result["near_ties"] is None) == (space == "Box")
    assert (inputs / "explanation.html").is_file()


@pytest.mark.parametrize(("argv", "words"), [
    (["absent.safetensors", "--teacher", "inputs/teacher.safetensors"], "absent.safetensors"),
    (["inputs/student.safetensors", "--teacher", "absent.zip"], "absent.zip"),
    (["inputs/student.safetensors"], "--teacher"),
    (["inputs/student.safetensors", "--teacher", "inputs/box.safetensors"], "inputs/box.safetensors: acts by"),
    (["inputs/student.safetensors", "--teacher", "inputs/teacher.safetensors", "--env", "Acrobot-v1"], "shape (4,)"),
    (["inputs/student.safetensors", "--teacher", "inputs/teacher.safetensors", "--names", "a", "b"], "4 numbers"),
    (["inputs/student.safetensors", "--teacher", "inputs/teacher.safetensors", "--states", "0"], "states"),
    (["inputs/student.safetensors", "--teacher", "inputs/teacher.safetensors", "--teacher-keys", "a"], "not a Dict"),
    (["inputs/student.safetensors", "--teacher", "inputs/teacher.safetensors", "--out", "inputs/box.safetensors/x"],
     "inputs/box.safetensors/x: cannot be made"),
])  # fmt: skip
def test_a_wrong_input_is_one_line_and_leaves_nothing(
    argv: list[str], words: str, inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(inputs.parent.rglob("*"))
    assert cli.run("explain", argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err.splitlines()[-1]
    assert err.count("error: ") == 1
    assert "Traceback" not in err
    assert sorted(inputs.parent.rglob("*")) == before


def test_policies_whose_distributions_cannot_be_compared_are_refused(agents: dict[str, Agent], inputs: Path) -> None:
    path = make_student(HEADS["squashed_gaussian"]).save(inputs / "s.safetensors", {"env": PROBES["Box"]})
    from kd_agent.explanations.explain import explain_file
    from kd_agent.settings import ExplainConfig, resolve

    settings = {"student": str(path), "teacher": str(agents["Box"].path), "quiet": True}
    with pytest.raises(KDError, match="there is no KL between them"):
        explain_file(resolve(ExplainConfig, settings))
