"""A kickstarted student: its teacher weighs as asked for and fades, its first states and weights follow the seed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorder import SEAMS, Recorder, Stopped, a_teacher, fingerprint, original
from samples import HEADS, PROBES, make_student
from stable_baselines3 import PPO

from kd_agent import load_policy
from kd_agent.kickstarting.kickstart import kickstart
from kd_agent.ppo.guided_policy import Fade
from kd_agent.rollouts.evaluate import Evaluation

TRAINING = {"n_envs": 2, "n_steps": 16, "batch_size": 8, "n_epochs": 3, "hidden": [9], "gamma": 0.9, "gae_lambda": 0.8,
            "ent_coef": 0.01, "clip_range": 0.3, "learning_rate": 0.007, "activation": "relu"}  # fmt: skip
GIVEN: dict[str, Any] = {"env": PROBES["Discrete"], "total_steps": 256, "weight": 2.0, "fade_fraction": 0.5,
                         "critic_warmup": 0.25, "method": "ppd", "hidden": [4], "activation": "tanh", "seed": 3,
                         "training": TRAINING, "episodes": 6, "max_episodes": 6, "quiet": True}  # fmt: skip
FIRST_LOOK = 512 * 2
"""States: steps, times environments."""


def saved(folder: Path, seed: int = 1) -> str:
    """The file of a teacher."""
    teacher = make_student(HEADS["categorical"], hidden=(6,), seed=seed)
    return str(teacher.save(folder / f"{seed}.safetensors", {"env": GIVEN["env"]}))


class Kickstarted:
    """A kickstart whose evaluations are stand-ins, and what was seen of it.

    Attributes:
        weights: Of the guidance, at each minibatch.
        warming: Whether the critic warmed up then.
        ways: Method, clip and entropy of the guidance.
        models: Those that were trained.
        programs: The student's, whenever it was evaluated.
    """

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, scores: list[float], **more: Any) -> None:
        self.weights: list[float] = []
        self.warming: list[bool] = []
        self.ways: set[tuple[bool, float, float]] = set()
        self.models: list[PPO] = []
        self.programs: list[str] = []
        self.recorder = Recorder()
        bonus, learn = original("bonus"), original("learn")

        def spied_bonus(guidance: Any, *told: Any) -> Any:
            self.weights.append(guidance.weight)
            self.warming.append(guidance.warming)
            self.ways.add((guidance.proximal, guidance.clip_range, guidance.ent_coef))
            return bonus(guidance, *told)

        def spied_learn(model: PPO, *told: Any, **also: Any) -> Any:
            self.models.append(model)
            return learn(model, *told, **also)

        def keeper(player: Any, *told: Any, **also: Any) -> Evaluation:
            self.programs.append(fingerprint(player.graph))
            return Evaluation(np.array([scores[len(self.programs) - 1]]), np.array([7]))

        patch.setattr(SEAMS["bonus"], spied_bonus)
        patch.setattr(SEAMS["learn"], spied_learn)
        patch.setattr(SEAMS["keeper"], keeper)
        self.recorder.install(patch)
        self.result = kickstart({**GIVEN, "teacher": saved(folder), "out": str(folder / "run"), **more})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kickstart")


@pytest.fixture(scope="module")
def run(folder: Path) -> Kickstarted:
    """A whole run with an evaluation about every 64 steps, of which the second is the best."""
    with pytest.MonkeyPatch.context() as patch:
        training = {**TRAINING, "eval_every": 64}
        return Kickstarted(folder, patch, [1.0, 9.0, 2.0, 3.0, 4.0], training=training)


def test_a_kickstarts_teacher_weighs_as_asked_for_and_fades_in_time(run: Kickstarted) -> None:
    assert [model.seed for model in run.models] == [3]
    assert run.ways == {(True, 0.3, 0.01)}
    assert run.weights[0] == 2.0
    assert run.weights == sorted(run.weights, reverse=True)
    assert np.mean([weight > 0 for weight in run.weights]) == pytest.approx(0.5, abs=0.03)
    assert np.mean(run.warming) == pytest.approx(0.25, abs=0.03)
    assert min(weight for weight, warm in zip(run.weights, run.warming, strict=True) if warm) == 2.0


def test_the_best_of_all_evaluations_is_saved_and_judged(run: Kickstarted, folder: Path) -> None:
    assert len(set(run.programs)) == len(run.programs) > 2
    policy = load_policy(folder / "run" / "student.safetensors")
    assert fingerprint(policy.graph) == run.programs[1]
    assert {play.who for play in run.recorder.verdicts()} == {run.programs[1]}
    assert policy.graph.provenance["env"] == GIVEN["env"]


def test_what_a_kickstart_costs_is_counted_from_its_first_look_on(run: Kickstarted) -> None:
    cost = run.result["cost"]
    [model] = run.models
    assert cost["env_steps"] == FIRST_LOOK + model.num_timesteps == FIRST_LOOK + 256
    assert cost["validation_steps"] == 7 * len(run.programs)
    assert cost["gradient_steps"] == len(run.weights)
    assert cost["verdict_steps"] == 10 * sum(len(play.seeds) for play in run.recorder.plays)


def test_the_students_size_and_activation_are_those_that_were_asked_for(run: Kickstarted) -> None:
    [model] = run.models
    program = model.policy.program()
    widths = [op.tensors["weight"].shape[0] for op in program.ops if op.kind == "linear"]
    assert widths == [4, 4]
    assert {op.attributes["function"] for op in program.ops if op.kind == "activation"} == {"tanh"}
    assert model.policy.net_arch["vf"] == [9]


def test_a_kickstarts_seed_decides_the_first_weights_and_the_states_that_normalise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Any] = []

    def learn(model: PPO, *given: Any, **more: Any) -> None:
        begun.append(model.policy.program())
        raise Stopped

    monkeypatch.setattr(SEAMS["learn"], learn)
    for number, seed in enumerate((3, 3, 4)):
        out = tmp_path / str(number)
        with pytest.raises(Stopped):
            kickstart({**GIVEN, "teacher": saved(tmp_path), "out": str(out), "seed": seed})
        # A run that was stopped leaves nothing to go on with: it is begun anew.
        assert not (out / "config.yaml").exists()
    weights = [fingerprint(program) for program in begun]
    means = [op.tensors["mean"].tolist() for program in begun for op in program.ops if op.kind == "normalise"]
    for figures in (weights, means):
        assert figures[0] == figures[1] != figures[2]


def test_a_student_begun_elsewhere_is_gone_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    def learn(model: PPO, *given: Any, **more: Any) -> None:
        begun.append(fingerprint(model.policy.program()))
        raise Stopped

    monkeypatch.setattr(SEAMS["learn"], learn)
    first = saved(tmp_path, seed=8)
    with pytest.raises(Stopped):
        kickstart({**GIVEN, "teacher": saved(tmp_path), "init": first, "out": str(tmp_path / "run")})
    assert begun == [fingerprint(load_policy(first).graph)]


def test_an_adaptive_guidance_knows_what_teacher_and_random_policy_earn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fades: list[Fade] = []

    def learn(model: PPO, total: int, callback: Any, **more: Any) -> None:
        fades.append(callback[0]._fade)
        raise Stopped

    recorder = Recorder()
    recorder.install(monkeypatch)
    monkeypatch.setattr(SEAMS["learn"], learn)
    with pytest.raises(Stopped):
        kickstart({**GIVEN, "fade": "adaptive", "teacher": saved(tmp_path), "out": str(tmp_path / "run")})
    assert fades == [Fade("adaptive", 2.0, 64, 100.0, 0.0)]
    assert [min(play.seeds) for play in recorder.plays] == [15_000, 15_000]


def test_several_teachers_guide_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What PPO keeps its own evaluations choose; no teacher is left out before."""

    def learn(model: PPO, *given: Any, **more: Any) -> None:
        raise Stopped

    recorder = Recorder()
    recorder.install(monkeypatch)
    monkeypatch.setattr(SEAMS["learn"], learn)
    teachers = [saved(tmp_path, seed) for seed in (1, 2)]
    with pytest.raises(Stopped):
        kickstart({**GIVEN, "teacher": teachers, "out": str(tmp_path / "run")})
    assert recorder.plays == []


def test_a_teacher_that_is_given_need_not_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guides: list[Any] = []

    def learn(model: PPO, *given: Any, **more: Any) -> None:
        guides.append(model.rollout_buffer._teacher)
        raise Stopped

    monkeypatch.setattr(SEAMS["learn"], learn)
    teacher = a_teacher()
    with pytest.raises(Stopped):
        kickstart({**GIVEN, "out": str(tmp_path / "run")}, teacher)
    assert guides == [teacher]
