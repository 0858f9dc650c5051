"""Rounds of collecting and fitting: DAgger's data set (Ross et al. 2011), kept round by round."""

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from kd_agent.distillation.fitting import build_student, fit_all, load_student
from kd_agent.distillation.temperature import settle_temperature
from kd_agent.errors import KDError
from kd_agent.evaluation import along
from kd_agent.networks import Student
from kd_agent.rollouts import Rollout, collect
from kd_agent.runs import RunFolder
from kd_agent.runs.record import Session

EXTRA = 8
"""The part of the budget, one in so many, that each round has which is collected beyond it."""
_FINISHED = "finished rounds"


def gather(run: Session, env: VecEnv) -> tuple[Session, list[Rollout]]:
    """All rounds: collect, label, fit the student that drives the next, if any; those finished before are read.

    Returns:
        The run, its temperature settled after the first round, and the rounds.
    """
    arrays = run.folder.load_arrays("driver")
    finished = int(arrays.pop(_FINISHED)) if arrays else 0
    rollouts = [read_round(run.folder, number) for number in range(finished)]
    driver = load_student(run, rollouts[0], 0, arrays) if arrays else None
    for number in range(finished, run.effort.rounds):
        rollouts.append(collect_round(run, env, driver, number))
        run = settle_temperature(run, rollouts[0])
        if number + 1 < run.effort.rounds:
            driver = driver or build_student(run, rollouts[0], 0)
            fit_all(run, driver, rollouts, name=f"fit {number + 1}", steps=run.effort.round_steps, number=number)
        keep_round(run.folder, number, rollouts[-1])
        weights = driver.arrays() if driver else {}
        run.folder.save_arrays("driver", weights | {_FINISHED: np.array(number + 1)})
    return run, rollouts


def collect_round(run: Session, env: VecEnv, student: Student | None, number: int) -> Rollout:
    """One round of labelled states; beta falls from 1 over the first rounds, and is 0 in those beyond the budget."""
    config = run.config
    rounds = run.effort.rounds
    steps = steps_of(run, rounds if number < rounds else EXTRA)
    beta = max(0.0, 1 - number / max(rounds * config.beta_fraction, 1e-9)) if number else 1.0
    policy = student.policy() if student else None
    with run.reporter.stage(f"round {number + 1}", steps * run.effort.n_envs, "steps") as advance:
        rollout = collect(env, run.teacher, policy, steps=steps, beta=beta,
                          exploration=config.exploration, seed=(config.seed, number), layer=config.teacher_layer,
                          advance=advance)  # fmt: skip
    if policy:
        close = along(run.teacher, policy, rollout)
        run.events.add_scalar("distill/agreement_before_fit", close.agreement, number)
    return rollout


def steps_of(run: Session, parts: int) -> int:
    """Steps of each environment in one of so many equal parts of the budget."""
    return -(-run.effort.env_steps // (parts * run.effort.n_envs))


def keep_round(folder: RunFolder, number: int, rollout: Rollout) -> None:
    """Write a round's data into the run folder."""
    folder.save_arrays(f"round-{number}", rollout.arrays())


def read_round(folder: RunFolder, number: int) -> Rollout:
    """Inverse of `keep_round`; KDError where the round is missing or damaged."""
    arrays = folder.load_arrays(f"round-{number}")
    if arrays is None:
        raise KDError(f"{folder.path}: its checkpoint lacks round-{number}.npz")
    return Rollout.from_arrays(arrays)
