"""One fit: a new student, and its fit to labelled states."""

import inspect
from collections.abc import Mapping, Sequence

import torch

from kd_agent import plugins
from kd_agent.errors import KDError
from kd_agent.losses import Objective
from kd_agent.networks import Softening, Student, Teacher
from kd_agent.policies import Array, ObservationSpec
from kd_agent.rollouts import Rollout
from kd_agent.runs import Plan, Run
from kd_agent.students import has_bias, normalizers_for


def fit(run: Run, student: Student, rollouts: Sequence[Rollout], *, name: str, steps: int, seed: int) -> float:
    """Fit a student to labelled states, shown as a stage.

    Args:
        run: The run.
        student: The student; changed in place.
        rollouts: The states.
        name: What the stage is called.
        steps: Gradient steps.
        seed: Of the order of the states, and of dropout.

    Returns:
        The mean loss at its end.
    """
    plan = run.plan
    learner = plugins.load("learners", student.learner)
    with run.reporter.stage(name, steps, "gradient steps") as advance:
        loss: float = learner.fit(
            student,
            rollouts,
            objective_of(plan),
            steps=steps,
            batch_size=plan.batch_size,
            learning_rate=plan.learning_rate,
            l2=plan.l2,
            seed=seed,
            on_step=lambda step, loss: advance(step, loss=loss),
        )
    run.costs.add("gradient_steps", steps)
    return loss


def objective_of(plan: Plan) -> Objective:
    """What a fit minimises."""
    return Objective(plan.loss, Softening(plan.temperature, plan.convention), plan.student_layer)


def build_student(run: Run, rollout: Rollout, attempt: int) -> Student:
    """A new student on the run's device.

    Args:
        run: The run.
        rollout: The first round, whose states it is normalised by.
        attempt: Each has other initial weights.
    """
    states = {key: rollout.obs[key].reshape(-1, *spec.shape) for key, spec in run.observed.items()}
    seed = run.seed("weights", attempt)
    return new_student(run.plan, run.teacher, run.observed, states, seed=seed).to(run.config.device)


def new_student(
    plan: Plan,
    teacher: Teacher,
    observed: Mapping[str, ObservationSpec],
    states: Mapping[str, Array],
    *,
    seed: int,
) -> Student:
    """A student as the plan describes it, on the CPU.

    Args:
        plan: The plan.
        teacher: Whose head it has.
        observed: What it sees of an observation, by key.
        states: States `[S, *O]` by key that it is normalised by.
        seed: Of its initial weights.
    """
    normalizers = normalizers_for(teacher, observed, states, hidden=plan.hidden, activation=plan.activation)
    settings = {
        "hidden": plan.hidden,
        "activation": plan.activation,
        "dropout": plan.dropout,
        "bias": has_bias(teacher, observed, plan.hidden, plan.activation),
        "leaves": plan.leaves,
        "seed": seed,
    }
    build = plugins.load("students", plan.student).build
    # A tree has no hidden layers, a network no leaves: each kind takes what it knows.
    known = inspect.signature(build).parameters
    own = {name: value for name, value in settings.items() if name in known}
    student: Student = build(observed, teacher.head, normalizers, **own)
    return student


def load_student(run: Run, rollout: Rollout, attempt: int, arrays: Mapping[str, Array]) -> Student:
    """A student with the weights of a checkpoint.

    Args:
        run: The run.
        rollout: The first round.
        attempt: Which attempt it was.
        arrays: Its weights and buffers by name.

    Raises:
        KDError: They are another student's.
    """
    student = build_student(run, rollout, attempt)
    try:
        # Neither texts nor wide numbers are weights, and torch has no type for some of them.
        weights = {name: torch.from_numpy(array) for name, array in arrays.items()}
        student.load_state_dict(weights)
    except (RuntimeError, TypeError):
        raise KDError(f"{run.folder.path}: its checkpoint is of another student") from None
    return student
