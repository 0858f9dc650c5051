"""Settings arrive where they act: at the student, the loss, the optimiser, the teachers, the control."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recorder import GIVEN, ROUNDS, SCORES, SEAMS, TEACHER, Recorder, Stopped, fingerprint, original, recorded
from samples import HEADS, PROBES, make_student

from kd_agent import distill, load_policy
from kd_agent.commands import cli
from kd_agent.evaluation.agreement import Agreement
from kd_agent.losses import Objective
from kd_agent.networks import LAYER, Student, Teacher
from kd_agent.networks.distributions import Softening
from kd_agent.rollouts.collect import Rollout


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
        distill(
            {
                **GIVEN,
                "env": "kd_envs/ProbeDict-v0",
                "teacher": str(teacher),
                "teacher_keys": ["all"],
                "student_keys": ["half"],
                "loss": "kl",
                "teacher_layer": None,
                "student_layer": None,
                "attempts": 1,
                "out": str(tmp_path / "run"),
            }
        )
    assert all(list(fit.student.observations) == ["half"] for fit in recorder.fits)
    assert list(recorder.rounds[0].teacher.observations) == ["all"]
    assert set(recorder.rounds[0].rollout.obs) == {"all", "half"}


@pytest.mark.parametrize(("by", "chosen"), [("kl", 4.0), ("agreement", 0.25)])
def test_an_automatic_temperature_is_chosen_by_what_was_asked_for_on_states_held_out(
    by: str, chosen: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KL falls with the temperature here, and so does agreement."""
    recorder = Recorder(SCORES)
    noise = np.random.default_rng(0)

    def agreement_on(teacher: Teacher, policy: Any, column: Rollout) -> Agreement:
        fit = recorder.fits[-1]
        shown = {rollout.obs["obs"].tobytes() for rollout in fit.rollouts}
        assert column.obs["obs"].tobytes() not in shown
        worth = 1 / fit.objective.softening.temperature + 1e-4 * noise.random()
        return Agreement(kl=worth, kl_uniform=1.0, agreement=worth)

    monkeypatch.setattr(SEAMS["agreement"], agreement_on)
    recorded(tmp_path / "run", recorder, temperature="auto", choose_by=by, attempts=1)
    assert [fit.objective.softening.temperature for fit in recorder.fits[-ROUNDS:]] == [chosen] * ROUNDS
    tried = {fit.objective.softening.temperature for fit in recorder.fits[:-ROUNDS]}
    assert {0.25, 1.0, 4.0} <= tried


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


def numbered(steps: int, envs: int = 1) -> Rollout:
    """States whose label is their number, so that a loss tells which of them it has seen."""
    number = np.arange(steps * envs, dtype=np.float32).reshape(steps, envs)
    obs = np.random.default_rng(0).normal(size=(steps, envs, 4)).astype(np.float32)
    params = np.repeat(number[..., None], 4, axis=2)
    starts = np.zeros((steps, envs), bool)
    return Rollout({"obs": obs}, params, starts.astype(np.int8), number, starts, np.ones_like(number))


def label_as_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss that is the label itself."""
    monkeypatch.setattr(SEAMS["kl"], lambda student, target, *rest: target.params[:, 0] + 0 * student.params.sum(-1))


def fit(student: Student, rollouts: Sequence[Rollout], **more: Any) -> float:
    settings = {"steps": 1, "batch_size": 10_000, "learning_rate": 1e-2, **more}
    loss: float = original("fit")(student, rollouts, settings.pop("objective", Objective({"kl": 1.0})), **settings)
    return loss


def test_the_head_of_a_window_only_warms_the_memory_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 65 states a window of 64 begins with state 0 or 1; the second kind has 16 states that do not count."""
    label_as_loss(monkeypatch)
    student = make_student(HEADS["categorical"], "gru", hidden=(4,))
    means = {fit(student, [numbered(65)], batch_size=64, seed=seed) for seed in range(12)}
    from_start, after_burn_in = np.mean(range(64)), np.mean(range(17, 65))
    assert means == {from_start, after_burn_in}


def test_a_states_weight_counts_in_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    label_as_loss(monkeypatch)
    rollout = numbered(10)
    rollout.weight[:5] = 0
    assert fit(make_student(HEADS["categorical"]), [rollout]) == pytest.approx(np.mean(range(5, 10)))


def test_a_batch_has_the_size_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def loss(student: Any, target: Any, *rest: Any) -> torch.Tensor:
        sizes.append(len(target.params))
        return student.params.sum(-1)

    monkeypatch.setattr(SEAMS["kl"], loss)
    fit(make_student(HEADS["categorical"]), [numbered(20)], steps=3, batch_size=6)
    assert sizes == [6, 6, 6]


@pytest.mark.parametrize("convention", ["hinton", "rusu"])
def test_a_fit_minimises_the_loss_of_its_temperature_and_convention(convention: str) -> None:
    student, rollout, t = make_student(HEADS["categorical"], hidden=(5,)), numbered(20), 3.0
    rollout.params[..., 1:] *= 0.9
    rows = student({"obs": torch.from_numpy(rollout.obs["obs"][:, 0])}).params.detach()
    p = (torch.from_numpy(rollout.params[:, 0]) / t).log_softmax(-1)
    q = (rows / t if convention == "hinton" else rows).log_softmax(-1)
    expected = float((p.exp() * (p - q)).sum(-1).mean()) * (t * t if convention == "hinton" else 1) * 0.5
    objective = Objective({"kl": 0.5}, Softening(t, convention))
    assert fit(student, [rollout], objective=objective) == pytest.approx(expected, rel=1e-4)


def test_the_loss_compares_the_layers_that_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Student: 7 and 3 units; teacher: 6 and 5."""
    widths: list[tuple[int, int]] = []

    def relation(student: Any, target: Any, *rest: Any) -> torch.Tensor:
        widths.append((student.features[LAYER].shape[1], target.features[LAYER].shape[1]))
        return student.features[LAYER].sum(-1)

    student, states = make_student(HEADS["categorical"], hidden=(7, 3)), numbered(10)
    layer = TEACHER({"obs": states.obs["obs"][:, 0]}).features[GIVEN["teacher_layer"]].numpy()[:, None]
    rollout = Rollout.from_arrays({**states.arrays(), "layer": layer})
    monkeypatch.setattr(SEAMS["relation"], relation)
    for name in ("hidden.0", None):
        fit(student, [rollout], objective=Objective({"relation": 1.0}, student_layer=name))
    assert widths == [(7, 6), (3, 6)]


def test_the_rate_falls_as_a_cosine_and_weight_decay_is_the_optimisers(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    decays: list[list[float]] = []
    step = torch.optim.AdamW.step

    def spied(self: Any, *rest: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        decays.append([group["weight_decay"] for group in self.param_groups])
        return step(self, *rest)

    monkeypatch.setattr(torch.optim.AdamW, "step", spied)
    fit(make_student(HEADS["categorical"]), [numbered(10)], steps=100, learning_rate=0.02, l2=0.3)
    assert len(rates) == 100
    assert rates[0] == pytest.approx(0.02)
    assert rates[50] == pytest.approx((0.02 + 0.0002) / 2)
    assert rates[-1] < 0.02 * 0.02
    assert decays[0] == [0.3, 0.0]


def test_dropout_is_on_in_a_fit_off_after_it_and_follows_the_fits_seed() -> None:
    trained: list[bool] = []
    losses: list[float] = []
    for seed in (1, 1, 2):
        student = make_student(HEADS["categorical"], dropout=0.5)
        dropout = [module for module in student.modules() if isinstance(module, torch.nn.Dropout)]
        hook = dropout[0].register_forward_hook(lambda module, *rest: trained.append(module.training))
        losses.append(fit(student, [numbered(10)], steps=2, seed=seed))
        hook.remove()
        assert not any(module.training for module in student.modules())
    assert all(trained[-2:])
    assert losses[0] == losses[1] != losses[2]


def two_teachers(folder: Path) -> list[str]:
    """Files of two teachers that differ."""
    saved = [make_student(HEADS["categorical"], hidden=(6,), seed=seed) for seed in (1, 2)]
    return [str(s.save(folder / f"{n}.safetensors", {"env": PROBES["Discrete"]})) for n, s in enumerate(saved)]


def taught_by_two(folder: Path, recorder: Recorder, **more: Any) -> Recorder:
    alone = {"loss": "kl", "teacher_layer": None, "student_layer": None, "attempts": 1}
    with pytest.MonkeyPatch.context() as patch:
        recorder.install(patch)
        recorder.result = distill({**GIVEN, **alone, "teacher": two_teachers(folder), "out": str(folder / "r"), **more})
    return recorder


def test_the_rule_that_was_asked_for_combines_the_teachers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights: list[list[float]] = []
    product = original("product")

    def spied(outputs: Any, given: torch.Tensor, head: Any) -> Any:
        weights.append(given.tolist())
        return product(outputs, given, head)

    monkeypatch.setattr(SEAMS["product"], spied)
    taught_by_two(tmp_path, Recorder(), combine="product", teacher_gate=False)
    assert weights
    assert all(given == [0.5, 0.5] for given in weights)


def test_a_teacher_that_is_found_inferior_labels_nothing(tmp_path: Path) -> None:
    fingerprints = [fingerprint(load_policy(path).graph) for path in two_teachers(tmp_path)]
    recorder = taught_by_two(tmp_path, Recorder(teachers={fingerprints[1]: 10.0}))
    assert [one["weight"] for one in recorder.result["teachers"]] == [1.0, 0.0]
    first = make_student(HEADS["categorical"], hidden=(6,), seed=1)
    for r in recorder.rounds:
        states = r.rollout.obs["obs"].reshape(-1, 4)
        labels = first.policy().params({"obs": states})
        got = np.exp(r.rollout.params.reshape(-1, 4))
        expected = np.exp(labels)
        np.testing.assert_allclose(got / got.sum(-1, keepdims=True), expected / expected.sum(-1, keepdims=True), 1e-4)
