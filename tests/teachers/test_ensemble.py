"""Several teachers that are one: the rules by hand, the gate, memory, resuming, and pairs that do not fit."""

import json
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributions as td
from samples import HEADS, PROBES, TINY, Agent, make_student, rows
from stable_baselines3 import DQN, SAC

from kd_agent import KDError, distill, load_teacher, plugins
from kd_agent.environments.recipe import recipe_of
from kd_agent.evaluation.statistics import iqm
from kd_agent.evaluation.teacher_selection import Gate, judged
from kd_agent.networks.base import Origin, PolicyOutput, Teacher
from kd_agent.networks.distributions import ActionHead
from kd_agent.rollouts.evaluate import evaluate
from kd_agent.runs.reporter import Reporter
from kd_agent.settings import DistillConfig, resolve
from kd_agent.teachers import GraphTeacher, load_named, named_recipe
from kd_agent.teachers._ensemble import EnsembleTeacher

WEIGHTS = torch.tensor([0.2, 0.3, 0.5])
RULES = plugins.names("teachers.combine")


def answers(head: ActionHead, values: list[float] | None = None) -> list[PolicyOutput]:
    """Three teachers' answers to 7 states, no two alike."""
    given = [rows(head, seed=s, scale=1 + s) for s in range(3)]
    return [PolicyOutput(row, None if values is None else torch.full((7,), values[k])) for k, row in enumerate(given)]


def combined(rule: str, outputs: list[PolicyOutput], head: ActionHead, weights: torch.Tensor = WEIGHTS) -> torch.Tensor:
    row: torch.Tensor = plugins.load("teachers.combine", rule).combine(outputs, weights, head)
    return row


def part_probabilities(head: ActionHead, row: torch.Tensor) -> list[torch.Tensor]:
    """Probabilities `[7, n]` of each part of a discrete row, from torch alone."""
    if head.kind == "bernoulli":
        return [torch.stack([p, 1 - p], -1) for p in torch.sigmoid(row).unbind(-1)]
    return [part.softmax(-1) for part in row.split(list(head.spec.nvec), -1)]


def gaussian(row: torch.Tensor) -> td.Normal:
    mean, log_std = row.chunk(2, -1)
    return td.Normal(mean, log_std.exp())


DISCRETE = [name for name, head in HEADS.items() if not head.spec.is_gaussian]
GAUSSIAN = [name for name in HEADS if name not in DISCRETE]


@pytest.mark.parametrize("kind", DISCRETE)
def test_a_mixture_is_the_weighted_mean_of_probabilities(kind: str) -> None:
    head = HEADS[kind]
    outputs = answers(head)
    parts = zip(*(part_probabilities(head, output.params) for output in outputs), strict=True)
    wanted = [sum(w * p for w, p in zip(WEIGHTS, part, strict=True)) for part in parts]
    for found, expected in zip(part_probabilities(head, combined("mixture", outputs, head)), wanted, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", GAUSSIAN)
def test_a_mixture_of_gaussians_has_the_mixtures_mean_and_variance(kind: str) -> None:
    head = HEADS[kind]
    outputs = answers(head)
    found = gaussian(combined("mixture", outputs, head))
    normals = gaussian(torch.stack([output.params for output in outputs], 1))
    mixture = td.MixtureSameFamily(td.Categorical(WEIGHTS.expand(7, 3)), td.Independent(normals, 1))
    torch.testing.assert_close(found.mean, mixture.mean)
    torch.testing.assert_close(found.variance, mixture.variance)


@pytest.mark.parametrize("kind", DISCRETE)
def test_a_product_is_the_normalised_geometric_mean(kind: str) -> None:
    head = HEADS[kind]
    outputs = answers(head)
    parts = zip(*(part_probabilities(head, output.params) for output in outputs), strict=True)
    raw = [torch.stack([p**w for w, p in zip(WEIGHTS, part, strict=True)]).prod(0) for part in parts]
    for found, expected in zip(part_probabilities(head, combined("product", outputs, head)), raw, strict=True):
        torch.testing.assert_close(found, expected / expected.sum(-1, keepdim=True))


@pytest.mark.parametrize("kind", GAUSSIAN)
def test_a_product_of_gaussians_is_their_geometric_mean_on_a_grid(kind: str) -> None:
    head = HEADS[kind]
    outputs = answers(head)
    found = gaussian(combined("product", outputs, head))
    grid = torch.linspace(-60, 60, 200_001, dtype=torch.float64)[:, None, None]
    logs = [gaussian(output.params.double()).log_prob(grid) for output in outputs]
    density = sum(float(w) * log for w, log in zip(WEIGHTS, logs, strict=True)).softmax(0)
    mean = (density * grid).sum(0)
    torch.testing.assert_close(found.mean.double(), mean, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.variance.double(), (density * (grid - mean) ** 2).sum(0), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", HEADS)
def test_confidence_weighs_each_state_by_the_teachers_inverse_perplexity(kind: str) -> None:
    head = HEADS[kind]
    outputs = answers(head)
    entropies = []
    for output in outputs:
        if head.spec.is_gaussian:
            entropies.append(gaussian(output.params).entropy().mean(-1))
        else:
            parts = part_probabilities(head, output.params)
            entropies.append(torch.stack([td.Categorical(p).entropy() for p in parts]).mean(0))
    share = WEIGHTS * torch.stack(entropies, -1).neg().exp()
    share = share / share.sum(-1, keepdim=True)
    assert (share.std(0) > 0.01).any()
    found = combined("confidence", outputs, head)
    for state in range(7):
        one = [PolicyOutput(output.params[state : state + 1]) for output in outputs]
        torch.testing.assert_close(found[state : state + 1], combined("mixture", one, head, share[state]))


@pytest.mark.parametrize("kind", HEADS)
def test_a_route_follows_the_highest_value_and_without_critics_the_most_certain(kind: str) -> None:
    head = HEADS[kind]
    outputs = answers(head, [1.0, 3.0, 2.0])
    torch.testing.assert_close(combined("routed", outputs, head), outputs[1].params)
    if head.spec.is_gaussian:
        certain = torch.stack([-output.params.chunk(2, -1)[1].sum(-1) for output in outputs]).argmax(0)
    else:
        each = [torch.stack([(p * p.log()).sum(-1) for p in part_probabilities(head, o.params)]) for o in outputs]
        certain = torch.stack([e.sum(0) for e in each]).argmax(0)
    assert len(set(certain.tolist())) > 1
    blind = [*outputs[:2], PolicyOutput(outputs[2].params)]
    expected = torch.stack([outputs[int(k)].params[state] for state, k in enumerate(certain)])
    torch.testing.assert_close(combined("routed", blind, head), expected)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", HEADS)
def test_teachers_who_agree_are_repeated_and_offsets_of_logits_say_nothing(rule: str, kind: str) -> None:
    head = HEADS[kind]
    one = rows(head)
    found = combined(rule, [PolicyOutput(one)] * 3, head)
    assert head.kl(one, found).abs().max() < 1e-5
    if kind in ("categorical", "multi_categorical"):
        shifted = [PolicyOutput(one), PolicyOutput(one + 100), PolicyOutput(one - 7)]
        assert head.kl(one, combined(rule, shifted, head)).abs().max() < 1e-4
    extreme = [PolicyOutput(1e4 * rows(head, seed=s)) for s in range(3)]
    if not head.spec.is_gaussian:
        assert combined(rule, extreme, head).isfinite().all()


class Fixed(Teacher):
    """Answers by a function, under a name."""

    def __init__(self, name: str, answer: Any, kind: str = "categorical") -> None:
        self.head, self.answer = HEADS[kind], answer
        self.origin = Origin(name, sha256(name.encode()).hexdigest(), "hand", 10)
        self.observations = make_student(self.head).observations

    def __call__(self, observations: Any, state: Any = None, episode_start: Any = None) -> PolicyOutput:
        return PolicyOutput(torch.from_numpy(np.asarray(self.answer(observations["obs"]), np.float32)))


def good(name: str = "good", scale: float = 1.0) -> Fixed:
    """Knows the Discrete probe's best action, without much conviction."""
    return Fixed(name, lambda x: scale * x)


def corrupted() -> Fixed:
    """Prefers the worst action, and is very sure of it."""
    return Fixed("corrupted", lambda x: -30 * x)


def gate_of(teachers: list[Teacher], combine: str = "mixture") -> EnsembleTeacher:
    config = resolve(DistillConfig, {"env": PROBES["Discrete"], "combine": combine})
    return Gate(config, recipe_of(config.env), Reporter(quiet=True)).weigh(EnsembleTeacher(teachers, combine))


@pytest.mark.parametrize("rule", RULES)
def test_a_corrupted_teacher_sinks_every_rule_and_the_gate_keeps_it_out(rule: str) -> None:
    teachers: list[Teacher] = [good(), corrupted(), good("also good", 2.0)]
    seeds, env = range(20), PROBES["Discrete"]
    best = float(iqm(evaluate(good(), env, seeds=seeds).returns))
    sunk = float(iqm(evaluate(EnsembleTeacher(teachers, rule), env, seeds=seeds).returns))
    kept = gate_of(teachers, rule)
    assert best == 50
    assert sunk < 0.5 * best
    assert float(iqm(evaluate(kept, env, seeds=seeds).returns)) == best
    assert [record["weight"] for record in kept.origin.teachers] == [0.5, 0.0, 0.5]
    assert [record["verdict"] for record in kept.origin.teachers] == ["best", "inferior", "non-inferior"]
    assert kept.origin.num_parameters == 20
    assert kept.origin.gate_steps == (3 + 1 + 1) * 48 * 50
    assert kept.origin.sha256 == EnsembleTeacher(teachers, rule).origin.sha256


def specialist(name: str, knows: Any) -> Fixed:
    """Is sure of the best action in some states, and has no preference in the others."""
    return Fixed(name, lambda x: np.where(knows(x[:, :1]), 20 * x, np.arange(4) / 1e3))


@pytest.mark.parametrize("rule", RULES)
def test_specialists_that_know_what_they_do_not_know_are_together_as_good_as_one_that_knows_all(rule: str) -> None:
    """The gate lets both in where they are equals, and shuts the lesser one out, which is why it can be turned off."""
    halves: list[Teacher] = [specialist("left", lambda x: x < 0), specialist("right", lambda x: x >= 0)]
    returns = [evaluate(teacher, PROBES["Discrete"], seeds=range(20)).returns.mean() for teacher in halves]
    together = evaluate(EnsembleTeacher(halves, rule), PROBES["Discrete"], seeds=range(20)).returns.mean()
    assert max(returns) < 40
    assert together > 45
    lesser: list[Teacher] = [specialist("most", lambda x: x < 0.6), specialist("rest", lambda x: x >= 0.6)]
    assert [record["weight"] for record in gate_of(lesser, rule).origin.teachers] == [1.0, 0.0]
    open_to_all = evaluate(EnsembleTeacher(lesser, rule), PROBES["Discrete"], seeds=range(20)).returns.mean()
    assert open_to_all > evaluate(lesser[0], PROBES["Discrete"], seeds=range(20)).returns.mean() + 2


def test_the_gate_says_who_is_not_heard_and_warns_where_good_teachers_spoil_each_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    teachers = [good(), corrupted()]
    config = resolve(DistillConfig, {"env": PROBES["Discrete"]})
    Gate(config, recipe_of(config.env), Reporter(progress=False)).weigh(EnsembleTeacher(teachers))
    said = capsys.readouterr().err
    assert "teacher corrupted: IQM 0.0 in 48 episodes, weight 0, inferior to the best: it is not heard" in said
    assert "teacher good: IQM 50.0 in 48 episodes, weight 1\n" in said
    assert "WARNING" not in said
    gate = Gate(config, recipe_of(config.env), Reporter(progress=False))
    spoilt = EnsembleTeacher([good(), corrupted(), good("third")], "confidence")
    gate._check_together(spoilt, [[50.0] * 48] * 3, 12.0)
    assert "WARNING: together the teachers are worse than the best alone (IQM 50.0)" in capsys.readouterr().err


def test_verdicts_of_the_gate_are_against_the_best_and_share_the_level() -> None:
    rng = np.random.default_rng(0)
    best = rng.normal(100, 5, 48)
    returns = [list(best - 60), list(best), list(best - 0.1), list(rng.normal(0, 5, 48))]
    assert judged(returns, 0.0, 0.05) == ["inferior", "best", "non-inferior", "inferior"]
    assert judged([[1.0] * 48], 0.0, 0.05) == ["best"]


def test_teachers_of_several_algorithms_are_asked_and_stay_bit_identical(
    agents: dict[str, Agent], small: Path, tmp_path: Path
) -> None:
    dqn = train_dqn(tmp_path / "dqn.zip")
    sources = [agents["Discrete"].path, small, dqn]
    teachers = [load_teacher(str(path)) for path in sources]
    ensemble = EnsembleTeacher(teachers)
    states = {"obs": agents["Discrete"].observations()}
    before = [weights_of(teacher) for teacher in teachers]
    found = ensemble(states)
    rows = [teacher(states).params for teacher in teachers]
    mean = sum(row.softmax(-1) for row in rows) / 3
    torch.testing.assert_close(found.params.softmax(-1), mean)
    assert found.params.dtype == torch.float32
    assert [weights_of(teacher) for teacher in teachers] == before
    assert found.value is None
    assert ensemble.origin.num_parameters == sum(teacher.origin.num_parameters for teacher in teachers)
    assert ensemble.origin.algo == "PPO + A2C + DQN"
    assert ensemble.origin.source == " + ".join(map(str, sources))
    assert ensemble.widest_layer == max(teacher.widest_layer for teacher in teachers)
    assert ensemble.last_layer is None


def train_dqn(path: Path) -> Path:
    model = DQN("MlpPolicy", PROBES["Discrete"], seed=0, learning_starts=8, policy_kwargs={"net_arch": [9]})
    model.learn(32)
    model.save(path)
    return path


def weights_of(teacher: Teacher) -> list[bytes]:
    assert isinstance(teacher, GraphTeacher)
    return [tensor.tobytes() for op in teacher.graph.ops for tensor in op.tensors.values()]


def test_values_of_critics_are_averaged_where_all_have_one(agents: dict[str, Agent]) -> None:
    teacher = load_teacher(str(agents["Discrete"].path))
    states = {"obs": agents["Discrete"].observations()}
    found = EnsembleTeacher([teacher, teacher])(states)
    assert found.value is not None
    torch.testing.assert_close(found.value, teacher(states).value)
    assert EnsembleTeacher([teacher, good()])(states).value is None


def test_each_teacher_carries_its_own_memory() -> None:
    observations = {"obs": np.random.default_rng(0).normal(size=(6, 3, 4)).astype(np.float32)}
    starts = np.zeros((6, 3), bool)
    starts[0] = starts[4, 1] = True
    memories = [make_student(HEADS["categorical"], "gru", hidden=(5,), seed=s) for s in range(2)]
    origin = Origin("gru", "0" * 64, "student", 1)
    teachers: list[Teacher] = [GraphTeacher(student.graph(), origin) for student in memories]
    teachers.insert(1, good())
    ensemble, state, alone = EnsembleTeacher(teachers), None, [None] * 3
    assert ensemble.recurrent
    for step in range(6):
        now = {"obs": observations["obs"][step]}
        outputs = [t(now, s, starts[step]) for t, s in zip(teachers, alone, strict=True)]
        alone = [output.state for output in outputs]
        found = ensemble(now, state, starts[step])
        state = found.state
        mean = sum(output.params.softmax(-1) for output in outputs) / 3
        torch.testing.assert_close(found.params.softmax(-1), mean)
    again = ensemble({"obs": observations["obs"][5]}).params
    assert not torch.allclose(again, found.params)


def test_a_run_with_several_teachers_reports_their_weights_and_resumes_with_them(
    agents: dict[str, Agent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = agents["Discrete"]
    teacher = make_student(HEADS["categorical"], hidden=())
    with torch.no_grad():
        teacher.layers[0].weight.copy_(3 * torch.eye(4) / teacher.get_buffer("scale_obs"))
        teacher.layers[0].bias.copy_(3 * teacher.get_buffer("mean_obs"))
    best = str(teacher.save(tmp_path / "best.safetensors"))
    given = {**TINY, "env": agent.env_id, "teacher": [best, str(agent.path)], "out": str(tmp_path / "run")}
    result = distill(given)
    folder = tmp_path / "run"
    known = json.loads((folder / "teacher.json").read_text())
    assert [(r["source"], r["weight"]) for r in result["teachers"]] == [(best, 1.0), (str(agent.path), 0.0)]
    assert result["teachers"] == known["teachers"]
    assert result["teachers"][0]["sha256"] == sha256(Path(best).read_bytes()).hexdigest()
    assert result["teachers"][0]["iqm"] == 50 > result["teachers"][1]["iqm"]
    assert result["cost"]["gate_steps"] == 3 * 48 * 50 == known["gate_steps"]
    assert result["teacher"]["sha256"] == known["sha256"]
    before = (folder / "student.safetensors").read_bytes()
    for name in ("best.npz", "driver.npz", "round-2.npz"):
        (folder / "checkpoint" / name).unlink()
    monkeypatch.setattr(Gate, "weigh", None)
    again = distill({"env": agent.env_id, "out": str(folder), "resume": True, "quiet": True})
    assert again["teachers"] == result["teachers"]
    assert (folder / "student.safetensors").read_bytes() == before
    with pytest.raises(KDError, match="was begun with teacher"):
        distill({**given, "teacher": [str(agent.path), best], "resume": True})


def test_without_the_gate_every_teacher_is_heard_alike(agents: dict[str, Agent], tmp_path: Path) -> None:
    agent = agents["Discrete"]
    copy = str(shutil.copy(agent.path, tmp_path / "copy.zip"))
    given = {**TINY, "env": agent.env_id, "teacher": [str(agent.path), copy], "out": str(tmp_path / "run")}
    result = distill({**given, "teacher_gate": False, "combine": "product"})
    assert [record["weight"] for record in result["teachers"]] == [0.5, 0.5]
    assert result["cost"]["gate_steps"] == 0
    assert result["teacher"]["parameters"] == 2 * load_teacher(copy).origin.num_parameters


def refused(given: dict[str, Any]) -> str:
    with pytest.raises(KDError) as caught:
        distill({**TINY, **given})
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_teachers_that_do_not_go_together_are_named_both(agents: dict[str, Agent], tmp_path: Path) -> None:
    ppo, other = str(agents["Box"].path), str(agents["MultiBinary"].path)
    out = {"out": str(tmp_path / "run"), "env": PROBES["Box"]}
    sac = SAC("MlpPolicy", PROBES["Box"], policy_kwargs={"net_arch": [4]}, buffer_size=10)
    sac.save(tmp_path / "sac.zip")
    message = refused({**out, "teacher": [ppo, str(tmp_path / "sac.zip")]})
    assert ppo in message
    assert "sac.zip cannot teach together: one acts by diag_gaussian (2,), the other by squashed_gaussian" in message
    assert "one head" in message
    message = refused({**out, "teacher": [ppo, other]})
    assert f"{ppo} and {other} cannot teach together" in message
    assert "absent.zip" in refused({**out, "teacher": [ppo, str(tmp_path / "absent.zip")]})
    assert "--statistics is of one teacher" in refused({**out, "teacher": [ppo, ppo], "statistics": "x.pkl"})
    assert "did you mean 'mixture'" in refused({**out, "teacher": [ppo, ppo], "combine": "mixtur"})
    assert not (tmp_path / "run").exists()


def test_teachers_of_other_wrappers_or_sizes_are_named_with_both_environments(
    agents: dict[str, Agent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = str(agents["Discrete"].path), str(tmp_path / "two.zip")
    recipes = {one: recipe_of(PROBES["Discrete"]), two: recipe_of("CartPole-v1", {"sutton_barto_reward": True})}
    monkeypatch.setattr("kd_agent.teachers._named.recipe_for", lambda source, *rest: recipes[source])
    config = resolve(DistillConfig, {"env": PROBES["Discrete"], "teacher": [one, two]})
    with pytest.raises(KDError) as caught:
        named_recipe(config)
    assert str(caught.value) == (
        f"{one} and {two} cannot teach together: one plays in kd_envs/ProbeDiscrete-v0, the other in "
        "CartPole-v1 {'sutton_barto_reward': True}; teachers of one environment and the same wrappers would fit"
    )


def test_losses_of_a_layer_are_refused_because_several_teachers_have_none(agents: dict[str, Agent]) -> None:
    source = str(agents["Discrete"].path)
    given = {"env": PROBES["Discrete"], "teacher": [source, source], "teacher_gate": False, "loss": "relation"}
    assert "needs a layer of the teacher" in refused(given)


def test_a_pair_is_checked_and_somebody_must_be_heard() -> None:
    with pytest.raises(KDError, match="good and bits cannot teach together: one acts by categorical"):
        EnsembleTeacher([good(), Fixed("bits", lambda x: x, "bernoulli")])
    silent = [{"weight": 0.0}, {"weight": 0.0}]
    with pytest.raises(KDError, match="every teacher has weight 0"):
        EnsembleTeacher([good(), good()]).with_weights(silent)
    with pytest.raises(KDError, match="unknown combine 'mixtrue'; did you mean 'mixture'"):
        EnsembleTeacher([good()], "mixtrue")
    assert load_named(resolve(DistillConfig, {"env": PROBES["Discrete"]}), None) is None
    assert set(RULES) >= {"mixture", "product", "confidence", "routed"}
