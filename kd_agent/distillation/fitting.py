"""One fit: a new student, and its fit to the states of all rounds so far."""

import inspect
from collections.abc import Mapping, Sequence

import torch

from kd_agent import plugins
from kd_agent.errors import KDError
from kd_agent.losses import Objective
from kd_agent.networks import Softening, Student, Teacher
from kd_agent.policies import Array, Normalizer, ObservationSpec
from kd_agent.rollouts import Rollout
from kd_agent.runs.record import Session
from kd_agent.settings import DistillConfig
from kd_agent.students import has_bias


def fit_all(run: Session, student: Student, rollouts: Sequence[Rollout], *, name: str, steps: int, number: int) -> None:
    """Fit to the states of all rounds so far, and record the loss."""
    loss = fit(run, student, rollouts, name=name, steps=steps, seed=run.config.seed * 1_000 + number)
    run.events.add_scalar("distill/loss", loss, number)


def fit(run: Session, student: Student, rollouts: Sequence[Rollout], *, name: str, steps: int, seed: int) -> float:
    """Fit to labelled states, shown as a stage; the mean loss at its end."""
    config = run.config
    learner = plugins.load("learners", student.learner)
    with run.reporter.stage(name, steps, "gradient steps") as advance:
        loss: float = learner.fit(
            student, rollouts, objective_of(config), steps=steps, batch_size=run.effort.batch_size,
            learning_rate=run.effort.learning_rate, l2=config.l2, seed=seed,
            on_step=lambda step, loss: advance(step, loss=loss),
        )  # fmt: skip
    return loss


def objective_of(config: DistillConfig) -> Objective:
    """What a fit minimises."""
    assert config.loss is not None, "a session's settings are settled"
    assert config.temperature != "auto", "a session's settings are settled"
    return Objective(config.loss, Softening(config.temperature, config.convention), config.student_layer)


def build_student(run: Session, rollout: Rollout, attempt: int) -> Student:
    """A new student, normalised by the first round's states; each attempt has other initial weights."""
    states = {key: rollout.obs[key].reshape(-1, *spec.shape) for key, spec in run.seen.items()}
    student = new_student(run.config, run.teacher, run.seen, states, seed=run.config.seed * 1_000 + attempt)
    return student.to(run.config.device)


def new_student(
    config: DistillConfig, teacher: Teacher, seen: Mapping[str, ObservationSpec], states: Mapping[str, Array],
    *, seed: int,
) -> Student:  # fmt: skip
    """A student as the settings describe it, on the CPU.

    Args:
        config: Settings, every default decided.
        teacher: Whose head it has.
        seen: What it sees of an observation, by key.
        states: States `[S, *O]` by key that it is normalised by.
        seed: Of its initial weights.
    """
    normalizers = {key: Normalizer.of(states[key]) for key, spec in seen.items() if not spec.categories}
    assert config.student is not None, "a session's settings are settled"
    assert config.hidden is not None, "a session's settings are settled"
    build = plugins.load("students", config.student).build
    settings = {"hidden": config.hidden, "activation": config.activation, "dropout": config.dropout,
                "bias": has_bias(teacher, seen, config.hidden), "leaves": config.leaves, "seed": seed}  # fmt: skip
    known = inspect.signature(build).parameters
    student: Student = build(seen, teacher.head, normalizers, **{k: v for k, v in settings.items() if k in known})
    return student


def load_student(run: Session, rollout: Rollout, attempt: int, arrays: Mapping[str, Array]) -> Student:
    """A student with the weights of a checkpoint."""
    student = build_student(run, rollout, attempt)
    try:
        student.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    except RuntimeError:
        raise KDError(f"{run.folder.path}: its checkpoint is of another student") from None
    return student
