"""Settings arrive where they act: at the student, the loss, the optimiser, the plan."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recorder import GIVEN, SCORES, SEAMS, TEACHER, Recorder, Stopped, fingerprint, original, recorded
from samples import HEADS, PROBES, make_student

from kd_agent import distill, load_policy
from kd_agent.commands import cli
from kd_agent.networks.distributions import Softening


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Recorder:
    """A whole run under `GIVEN`."""
    return recorded(tmp_path_factory.mktemp("settings") / "run")


def test_temperature_convention_weights_and_layer_reach_the_loss_of_every_fit(run: Recorder) -> None:
    for fit in run.fits:
        assert fit.objective.softening == Softening(2.5, "rusu")
        assert fit.objective.weights == {"kl": 0.75, "relation": 0.5}
        assert fit.objective.student_layer == "hidden.0"


def test_batch_size_rate_and_weight_decay_reach_the_learner_in_every_fit(run: Recorder) -> None:
    for fit in run.fits:
        assert (fit.told["batch_size"], fit.told["learning_rate"], fit.told["l2"]) == (13, 0.017, 0.02)


def test_size_activation_and_dropout_reach_every_student(run: Recorder) -> None:
    for fit in run.fits:
        assert fit.dropout == {0.3}
        linear = [layer for layer in fit.student.layers if isinstance(layer, torch.nn.Linear)]
        assert [layer.out_features for layer in linear] == [7, 3, 4]
        assert any(isinstance(layer, torch.nn.Tanh) for layer in fit.student.layers)


def test_every_student_is_normalised_by_the_states_of_the_first_round(run: Recorder) -> None:
    first = run.rounds[0].rollout.obs["obs"].reshape(-1, 4)
    for fit in run.fits:
        [normalise] = [op for op in fit.student.graph().ops if op.kind == "normalise"]
        np.testing.assert_allclose(normalise.tensors["mean"], first.mean(0), atol=1e-6)
        np.testing.assert_allclose(normalise.tensors["scale"], 1 / first.std(0), rtol=1e-4)


def test_the_teachers_layer_is_asked_for_in_every_round(run: Recorder) -> None:
    assert {r.told["layer"] for r in run.rounds} == {GIVEN["teacher_layer"]}


def test_the_student_is_built_on_the_device_that_was_asked_for(tmp_path: Path) -> None:
    recorder = Recorder(stop_at_fit=True)
    with pytest.raises(Stopped):
        recorded(tmp_path / "run", recorder, device="meta")
    assert recorder.fits[0].device == "meta"


def test_student_and_teacher_see_their_own_keys(tmp_path: Path) -> None:
    teacher = make_student(HEADS["categorical"]).save(tmp_path / "t.safetensors", {"env": PROBES["Discrete"]})
    recorder = Recorder(SCORES)
    with pytest.MonkeyPatch.context() as patch:
        recorder.install(patch)
        distill({**GIVEN, "env": "kd_envs/ProbeDict-v0", "teacher": str(teacher), "teacher_keys": ["all"],
                 "student_keys": ["half"], "loss": "kl", "teacher_layer": None, "student_layer": None,
                 "attempts": 1, "out": str(tmp_path / "run")})  # fmt: skip
    assert all(list(fit.student.observations) == ["half"] for fit in recorder.fits)
    assert list(recorder.rounds[0].teacher.observations) == ["all"]
    assert set(recorder.rounds[0].rollout.obs) == {"all", "half"}


def test_settings_reach_a_run_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(sys.modules[distill.__module__], "distill", lambda config: given.append(config) or {})
    monkeypatch.setattr(cli.signal, "signal", lambda *arguments: None)
    monkeypatch.setattr(cli.warnings, "showwarning", cli.warnings.showwarning)
    flags: list[str] = []
    for name, value in GIVEN.items():
        if name in ("quiet", "loss"):
            continue
        flags += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, list) else [value])]
    flags += ["--quiet", "--loss", "kl=0.75", "relation=0.5", "--out", str(tmp_path)]
    assert cli.run("distill", flags) == 0
    [config] = given
    for name, value in GIVEN.items():
        found = getattr(config, name)
        assert (list(found) if isinstance(found, tuple) else found) == value, name


@pytest.mark.parametrize("sampled", [True, None])
def test_sampled_reaches_rounds_validation_verdict_agreement_and_file(
    sampled: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agreements: list[bool] = []
    collect = original("agreement states")

    def spied(*who: Any, deterministic: bool, **told: Any) -> Any:
        agreements.append(deterministic)
        return collect(*who, deterministic=deterministic, **told)

    monkeypatch.setattr(SEAMS["agreement states"], spied)
    run = recorded(tmp_path / "run", sampled=sampled)
    greedy = not sampled
    assert {r.told["deterministic"] for r in run.rounds} == {greedy}
    assert {play.deterministic for play in run.validations()} == {greedy}
    assert {play.deterministic for play in run.verdicts()} == {greedy}
    # The teacher is played the other way too, as a reference.
    others = [play for play in run.plays if play.who != fingerprint(TEACHER.graph)]
    assert {play.deterministic for play in others} == {greedy}
    assert agreements == [greedy]
    play = "greedy" if greedy else "sampled"
    assert run.result["play"] == play
    assert f" episodes, {play}; " in run.lines[-1]
    policy = load_policy(tmp_path / "run" / "student.safetensors")
    assert policy.sampled == bool(sampled)
    assert policy.graph.provenance["config"].get("sampled") == sampled
    # Files of greedy students are the same bytes as ever.
    assert ("sampled" in policy.graph.provenance["config"]) == ("play" in policy.graph.provenance) == bool(sampled)
