"""A temperature that chooses itself: `--temperature auto`, by held-out states.

The parallel environments of the first round are split into folds. For each candidate a student is fitted on all
folds but one and scored on that one, fold by fold, so that no state is scored by a student that saw its
neighbours. From then on the run is the one that `--temperature` with the chosen value would have been.

Letters: `F` folds.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from kd_agent.distillation.fitting import build_student, fit, objective_of
from kd_agent.errors import KDError
from kd_agent.evaluation import agreement_on
from kd_agent.networks import LAYER, ActionHead, PolicyOutput
from kd_agent.policies import Array
from kd_agent.rollouts import Rollout
from kd_agent.runs import CONFIG_FILE, Plan, Run, RunFolder
from kd_agent.settings import DistillConfig, to_yaml

CANDIDATES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Each twice the one before: a teacher's distributions change little by less."""
RECORD = "temperature.json"
_FOLDS = 5
_SHARE = 10
"""A fit that measures is this much shorter than a final fit."""
_TRIED = 16
"""States on which it is tried whether a temperature matters."""
_FEATURES = 4
"""Features of their layer."""
_NONE = "temperature 1: this loss and action head leave it without effect"


def check_temperature(config: DistillConfig) -> None:
    """Refuse a choice that has nothing to hold out."""
    if config.temperature == "auto" and config.n_envs == 1:
        raise KDError("temperature auto holds out whole environments: it needs n_envs of 2 or more (got 1)")


def settle_temperature(run: Run, rollout: Rollout) -> Run:
    """The run with its temperature decided; the settings in its folder say so too.

    Args:
        run: The run.
        rollout: Its first round.
    """
    record = known_choice(run.folder)
    if run.config.temperature != "auto":
        if record:
            # A process that was stopped before its first checkpoint has measured, and what it spent is in none.
            run.costs.add("gradient_steps", _spent(record, run.plan))
        return run
    if record is None:
        record = measured(run, rollout)
        run.folder.write_json(RECORD, record)
        run.reporter.say(record["reason"])
    with run.folder.reading(RECORD):
        chosen = float(record["chosen"])
    config = replace(run.config, temperature=chosen)
    decided = replace(run.planned(temperature=chosen), config=config)
    # From here on a resumed run is one to which this temperature was given.
    run.folder.write_text(CONFIG_FILE, to_yaml(decided.settings()))
    return decided


def _spent(record: Mapping[str, Any], plan: Plan) -> int:
    """The gradient steps of a measurement; none where nothing had to be measured."""
    fits = len(record["candidates"]) * record.get("folds", 0)
    return int(fits * (plan.final_steps // _SHARE))


def known_choice(folder: RunFolder) -> dict[str, Any] | None:
    """What was measured in a run's folder: `chosen`, `by`, `reason`, `candidates`; None where nothing was."""
    if not folder.holds_file(RECORD):
        return None
    return folder.read_json(RECORD)


def recall_temperature(folder: RunFolder, config: DistillConfig) -> DistillConfig:
    """A resumed run's settings, in which `auto` is what it came to be.

    Args:
        folder: Its folder.
        config: The settings asked for.
    """
    if not config.resume or config.temperature != "auto" or known_choice(folder) is None:
        return config
    with folder.reading(CONFIG_FILE):
        return replace(config, temperature=folder.read_yaml(CONFIG_FILE)["temperature"])


def measured(run: Run, rollout: Rollout) -> dict[str, Any]:
    """Fit and score a student for each candidate.

    Args:
        run: The run.
        rollout: Its first round.
    """
    by = run.config.choose_by
    if not temperature_matters(run.plan, run.teacher.head):
        return {"chosen": 1.0, "by": by, "reason": _NONE, "candidates": []}
    scores: dict[float, Array] = {}
    rows: list[dict[str, float]] = []
    for temperature in CANDIDATES:
        folds = held_out(run, rollout, temperature)
        scores[temperature] = folds[by]
        row = {"temperature": temperature}
        for name, values in folds.items():
            row[name] = float(values.mean())
        rows.append(row)
    chosen, reason = choose(scores, by)
    return {"chosen": chosen, "by": by, "reason": reason, "folds": len(scores[1.0]), "candidates": rows}


def temperature_matters(plan: Plan, head: ActionHead) -> bool:
    """Whether the plan's loss changes with the temperature, tried on random answers.

    Args:
        plan: The plan.
        head: Head of teacher and student.
    """
    generator = torch.Generator().manual_seed(0)

    def _random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    def _answer() -> PolicyOutput:
        return PolicyOutput(_random(_TRIED, head.num_params), _random(_TRIED), {LAYER: _random(_TRIED, _FEATURES)})

    teacher = _answer()
    student = _answer()

    def _losses(temperature: float) -> torch.Tensor:
        objective = objective_of(replace(plan, temperature=temperature))
        found = []
        for plugin in objective.plugins().values():
            found.append(plugin.loss(student, teacher, head, objective.softening))
        return torch.stack(found)

    return not torch.allclose(_losses(CANDIDATES[0]), _losses(CANDIDATES[-1]), rtol=1e-4)


def held_out(run: Run, rollout: Rollout, temperature: float) -> dict[str, Array]:
    """KL at T = 1 and agreement on each fold `[F]`, by a student that was fitted to the other folds.

    Args:
        run: The run.
        rollout: Its first round.
        temperature: The candidate.
    """
    run = run.planned(temperature=temperature)
    columns = _by_environment(rollout)
    folds = min(_FOLDS, len(columns))
    kl = np.zeros(folds)
    agreement = np.zeros(folds)
    for fold in range(folds):
        # Every fit from the same weights and in the same order: what differs is the temperature and the fold alone.
        student = build_student(run, rollout, 0)
        rest = [column for n, column in enumerate(columns) if n % folds != fold]
        name = f"temperature {temperature:g}, fold {fold + 1}"
        fit(run, student, rest, name=name, steps=run.plan.final_steps // _SHARE, seed=run.seed("fit"))
        policy = student.policy()
        close = [agreement_on(run.teacher, policy, column) for column in columns[fold::folds]]
        kl[fold] = np.mean([one.kl for one in close])
        agreement[fold] = np.mean([one.agreement for one in close])
    return {"kl": kl, "agreement": agreement}


def _by_environment(rollout: Rollout) -> list[Rollout]:
    """A rollout of each environment."""
    columns = []
    for n in range(rollout.driver.shape[1]):
        column = {name: array[:, [n]] for name, array in rollout.arrays().items()}
        columns.append(Rollout.from_arrays(column))
    return columns


def choose(scores: Mapping[float, Array], by: str) -> tuple[float, str]:
    """The best temperature and why; 1 where the best is within a standard error of it.

    Args:
        scores: Score of each fold, `[F]`, by temperature.
        by: "kl", where less is better, or "agreement".
    """
    # Divergence is a loss; agreement, less which, is one too.
    sign = 1 if by == "kl" else -1
    loss = {temperature: sign * folds for temperature, folds in scores.items()}
    best = min(loss, key=lambda temperature: float(loss[temperature].mean()))
    # In pairs, fold by fold; and a lead within one standard error goes to the simpler setting (Breiman et al. 1984).
    gain = loss[1.0] - loss[best]
    error = float(gain.std(ddof=1)) / len(gain) ** 0.5
    found = f"held-out {by} {scores[best].mean():.4g} at {best:g}, {scores[1.0].mean():.4g} at 1"
    chosen = 1.0
    why = ""
    if best != 1.0 and float(gain.mean()) <= error:
        why = ", within a standard error"
    elif best != 1.0:
        chosen = best
        why = f" ({gain.mean() / error:.1f} standard errors)"
    return chosen, f"temperature {chosen:g}: {found}{why}, {len(gain)} folds"
