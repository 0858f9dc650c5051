"""Growing trees from labelled states as VIPER does, and what a tree is refused for."""

import os
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from samples import HEADS, Agent, labelled, rows, settings
from tree_samples import KL, TWO, fitted, rollout_of

from kd_agent import KDError, distill, load_policy, load_teacher
from kd_agent.evaluation.agreement import agreement_on
from kd_agent.learners import tree as learner
from kd_agent.losses import Objective
from kd_agent.networks.distributions import Softening
from kd_agent.policies import file as graph_file
from kd_agent.policies.graph import ObservationSpec
from kd_agent.policies.head import Array
from kd_agent.policies.ops import MAX_LEAVES
from kd_agent.policies.tree_rules import rules
from kd_agent.rollouts import Rollout
from kd_agent.settings import DistillConfig
from kd_agent.students.tree import Tree


def test_what_a_wrong_action_costs_is_the_gap_between_best_and_worst() -> None:
    logits = np.float32([[0, 1, 3, 2], [5, 5, 5, 5]])
    np.testing.assert_allclose(learner.decision_gaps(HEADS["categorical"].spec, logits), [3, 0])
    np.testing.assert_allclose(learner.decision_gaps(HEADS["categorical"].spec, logits - 7), [3, 0])
    parts = np.float32([[0, 1, 3, 5, 4, 4, 4]])
    np.testing.assert_allclose(learner.decision_gaps(HEADS["multi_categorical"].spec, parts), [3 + 1])
    np.testing.assert_allclose(learner.decision_gaps(HEADS["bernoulli"].spec, np.float32([[-2, 1, 0]])), [3])


def test_a_state_in_which_a_mistake_is_dear_outweighs_many_in_which_it_is_cheap() -> None:
    cheap, dear = [[0.1, 0.0]] * 5, [[0.0, 9.0]]
    x = np.zeros((6, 1))
    assert fitted(x, cheap + dear).policy().act([0.0]) == 1
    assert fitted(x, cheap + [[0.0, 0.1]]).policy().act([0.0]) == 0


def test_the_first_split_is_where_mistakes_are_dear() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (400, 2))
    size = np.where(x[:, 1] > 0.5, 10.0, 0.01)  # the second feature matters little but where mistakes are dear
    sign = np.where(x[:, 1] > 0.5, x[:, 0] > 0, x[:, 1] > -0.5)
    student = fitted(x, np.stack([np.zeros(400), np.where(sign, size, -size)], axis=1), leaves=2)
    assert int(student.feature[0]) == 0
    flat = fitted(x, np.stack([np.zeros(400), np.where(sign, 1.0, -1.0)], axis=1), leaves=2)
    assert int(flat.feature[0]) == 1


def test_a_rule_is_found_again() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (2000, 3)).astype(np.float32)
    student = fitted(x, np.where(x[:, 1:2] > 0.25, [0.0, 2.0], [1.0, 0.0]), leaves=2)
    [tree] = student.ops()
    below, above = x[x[:, 1] <= 0.25, 1].max(), x[x[:, 1] > 0.25, 1].min()
    assert tree.tensors["feature"] == [1]
    assert below <= tree.tensors["threshold"][0] < above
    np.testing.assert_allclose(
        student.policy().probabilities([0, 0, 0])[0], [np.e / (1 + np.e), 1 / (1 + np.e)], rtol=1e-5
    )


def test_thresholds_between_neighbouring_floats_are_kept() -> None:
    low = np.random.default_rng(0).uniform(8, 16, 40).astype(np.float32)
    x = np.concatenate([low, np.nextafter(low, np.float32(99))])[:, None]
    wanted = np.repeat([0, 1], 40)
    student = fitted(x, np.eye(2)[wanted] * 5, leaves=80)
    np.testing.assert_array_equal(student.policy().predict(x, deterministic=True)[0], wanted)


@pytest.mark.parametrize("kind", ["categorical", "multi_categorical", "bernoulli"])
def test_a_leafs_row_is_the_nearest_to_its_states(kind: str) -> None:
    head = HEADS[kind]
    params = rows(head, 50).numpy()
    x = (np.arange(50) >= 20)[:, None]
    student = fitted(x, params, head, leaves=2)
    found = student.policy().params(np.float32([[0], [1]]))

    def divergence(leaf: Array) -> float:
        return float(head.kl(torch.from_numpy(params[:20]), torch.from_numpy(leaf[:1]).expand(20, -1)).mean())

    best, rng = divergence(found), np.random.default_rng(0)
    nearby = [divergence(found + 0.3 * rng.standard_normal(found.shape).astype(np.float32)) for _ in range(40)]
    assert best < min(nearby)


@pytest.mark.parametrize("kind", ["categorical", "multi_categorical", "bernoulli"])
def test_a_leaf_acts_as_its_states_vote(kind: str) -> None:
    spec, logits = HEADS[kind].spec, rows(HEADS[kind], 200).numpy()
    modes = np.stack([np.random.default_rng(0).integers(n, size=200) for n in spec.nvec], axis=1)
    found = learner.with_modes(spec, logits, modes)
    np.testing.assert_array_equal(learner.choices(spec, found), modes)
    right = (learner.choices(spec, logits) == modes).all(axis=1)
    np.testing.assert_array_equal(found[right], logits[right])
    assert 0 < right.sum() < 200


@pytest.mark.parametrize(("convention", "factor"), [("hinton", 4.0), ("rusu", 1.0)])
def test_the_temperature_softens_as_it_does_for_networks(convention: str, factor: float) -> None:
    objective = Objective({"kl": 1.0}, Softening(4.0, convention))
    params = [[1.0, 3.0], [0.0, 1.0]]
    leaf = fitted(np.zeros((2, 1)), params, objective=objective).policy().params([[0.0]])
    softened = torch.tensor(params).div(4).softmax(-1).mean(0)
    torch.testing.assert_close(torch.from_numpy(leaf / factor).softmax(-1)[0], softened, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["diag_gaussian", "squashed_gaussian"])
def test_means_are_compared_as_they_act(kind: str) -> None:
    spec = HEADS[kind].spec
    means = np.float32([[0.5, -1.5], [-0.2, 2.0]])
    np.testing.assert_allclose(learner.from_unit(spec, learner.unit_actions(spec, means)), means, rtol=1e-4)
    beyond = np.float32([[30, -40]])
    again = learner.from_unit(spec, learner.unit_actions(spec, beyond)).astype(np.float32)
    np.testing.assert_allclose(spec.greedy(again), spec.greedy(beyond), atol=1e-5)


def test_a_gaussian_leaf_is_the_mean_of_its_states_and_the_noise_is_the_teachers() -> None:
    x = np.float32([[0], [0], [1]])
    params = np.float32([[0.2, 0, -1, -2], [0.4, 1, -3, -2], [-0.5, 2, -2, -2]])
    student = fitted(x, params, HEADS["diag_gaussian"], objective=Objective({"mse": 1.0}))
    np.testing.assert_allclose(student.policy().params(x[1:]), [[0.3, 0.5, -2, -2], [-0.5, 2, -2, -2]], atol=1e-6)


def test_a_teacher_that_always_does_the_same_is_a_tree_too() -> None:
    student = fitted(np.random.default_rng(0).normal(size=(30, 3)), np.tile([0.0, 1.0], (30, 1)))
    assert student.graph().num_parameters == 2 + 4  # of one split, both children, and a leaf twice
    np.testing.assert_allclose(student.policy().probabilities([9.0, 9, 9])[0, 1], np.e / (1 + np.e), rtol=1e-6)


def test_states_without_weight_teach_nothing() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (200, 2))
    right = np.where(x[:, :1] > 0, [0.0, 3.0], [3.0, 0.0])
    student = Tree({"obs": ObservationSpec((2,), "float32")}, TWO, {}, leaves=4)
    loss = learner.fit(student, [rollout_of(x, right), rollout_of(x, -right, weight=0)], KL)
    assert loss < 1e-6


@pytest.mark.parametrize("leaves", [2, 7])
def test_a_tree_has_no_more_leaves_than_it_may(leaves: int) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (500, 4))
    student = fitted(x, np.random.default_rng(1).normal(size=(500, 2)), leaves=leaves)
    [tree] = student.ops()
    assert tree.tensors["value"].shape == (leaves, 2)


def test_more_leaves_agree_more_in_every_action_space(agent: Agent) -> None:
    teacher = load_teacher(str(agent.path))
    rng = np.random.default_rng(7)
    rollout, held_out = (
        labelled(teacher, {"obs": rng.uniform(-1, 1, (size, 4)).astype(np.float32)}) for size in (4000, 500)
    )
    found = []
    for leaves in (2, 64):
        student = Tree(teacher.observations, teacher.head, {}, leaves=leaves)
        learner.fit(student, [rollout], Objective({"mse" if teacher.head.spec.is_gaussian else "kl": 1.0}))
        found.append(agreement_on(teacher, student.policy(), held_out))
    assert found[1].agreement > found[0].agreement + 0.05
    assert found[1].kl < found[0].kl


@pytest.mark.parametrize("space", ["MultiDiscrete", "Box"])
def test_a_run_distils_a_tree_and_writes_its_rules(space: str, agents: dict[str, Agent], tmp_path: Path) -> None:
    result = distill(settings(agents[space], tmp_path / "run", student="tree", leaves=6))
    policy = load_policy(tmp_path / "run" / "student.safetensors")
    assert next(op for op in policy.graph.ops if op.kind == "tree").tensors["value"].shape[0] == 6
    assert result["cost"]["gradient_steps"] == 0
    assert (tmp_path / "run" / "rules.txt").read_text() == rules(policy.graph)


def test_a_tree_that_was_interrupted_goes_on_to_the_same_bits(
    agents: dict[str, Agent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = (settings(agents["Discrete"], tmp_path / name, student="tree", leaves=6) for name in "ab")
    distill(whole)
    replace, calls = os.replace, []

    def replace_or_die(*paths: Any) -> None:
        calls.append(paths)
        if len(calls) == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*paths)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace_or_die)
        if not (child := os.fork()):
            try:
                distill(parts)
            finally:
                os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    distill({"env": parts["env"], "out": parts["out"], "resume": True, "quiet": True})
    first, second = ((tmp_path / name / "student.safetensors").read_bytes() for name in "ab")
    assert first == second


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"loss": "js"}, "not by the loss js; leave out --loss"),
        ({"loss": ["kl", "hint=0.5"]}, "not by the loss hint, kl"),
        ({"loss": "mse"}, "not by the loss mse"),
        ({"dropout": 0.1}, "dropout is for networks"),
        ({"l2": 0.1}, "l2 is for networks"),
        ({"leaves": 1}, "leaves"),
        ({"leaves": MAX_LEAVES + 1}, "leaves: a tree has 4096 at most"),
    ],
)
def test_what_a_tree_cannot_be_is_refused_before_anything_is_done(
    more: dict[str, Any], message: str, agents: dict[str, Agent], tmp_path: Path
) -> None:
    with pytest.raises(KDError, match=re.escape(message)):
        distill(settings(agents["Discrete"], tmp_path / "run", student="tree", **more))
    assert not (tmp_path / "run").exists()


def test_a_tree_is_neither_for_images_nor_for_memories() -> None:
    config, numbers = DistillConfig(env="x", student="tree"), {"obs": ObservationSpec((4,), "float32")}
    with pytest.raises(KDError, match="images; use --student cnn"):
        learner.check(config, {"obs": ObservationSpec((84, 84, 3), "uint8")}, None)
    teacher: Any = type("Recurrent", (), {"recurrent": True, "head": TWO})()
    with pytest.raises(KDError, match=r"no memory.*use --student gru"):
        learner.check(config, numbers, teacher)
    learner.check(config, numbers, None)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(learner, "find_spec", lambda name: None)
    monkeypatch.setattr(learner, "import_module", missing)
    with pytest.raises(KDError, match="pip install scikit-learn"):
        learner.check(DistillConfig(env="x", student="tree"), {}, None)
    with pytest.raises(KDError, match="scikit-learn"):
        fitted(np.zeros((2, 1)), np.zeros((2, 2)))


def test_a_tree_sees_several_observations_and_categories() -> None:
    observed = {"floor": ObservationSpec((), "int64", (4,)), "grid": ObservationSpec((2, 2), "float32")}
    rng = np.random.default_rng(0)
    obs = {"floor": rng.integers(4, size=(1, 600)), "grid": rng.uniform(-1, 1, (1, 600, 2, 2)).astype(np.float32)}
    wanted = np.where((obs["floor"] == 2) ^ (obs["grid"][..., 1, 0] > 0), 1, 0)
    one = np.ones((1, 600), np.float32)
    student = Tree(observed, TWO, {}, leaves=5)
    learner.fit(
        student, [Rollout(obs, np.eye(2, dtype=np.float32)[wanted], one.astype(np.int8), one, one > 0, one)], KL
    )
    batch = {key: array[0] for key, array in obs.items()}
    np.testing.assert_array_equal(student.policy().predict(batch, deterministic=True)[0], wanted[0])
    text = rules(student.graph())
    assert "if floor != 2:" in text
    assert "else:  # floor == 2" in text
    assert re.search(r"if grid\[1, 0\] <= -?[\d.e-]+:", text)


def test_the_same_states_give_the_same_tree_and_leave_the_global_generators_alone() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (300, 4))
    params = np.random.default_rng(1).normal(size=(300, 2))
    np.random.seed(3)
    torch.manual_seed(3)
    expected = np.random.random(), torch.rand(1)
    np.random.seed(3)
    torch.manual_seed(3)
    first, second = (graph_file.to_bytes(fitted(x, params).graph()) for _ in range(2))
    assert first == second
    assert (np.random.random(), torch.rand(1)) == expected
