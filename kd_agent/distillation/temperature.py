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
from kd_agent.evaluation import along
from kd_agent.networks import LAYER, PolicyOutput, Softening
from kd_agent.policies import Array
from kd_agent.rollouts import Rollout
from kd_agent.runs import RunFolder
from kd_agent.runs.record import Session
from kd_agent.settings import DistillConfig, to_yaml

CANDIDATES = (0.25, 0.5, 1.0, 2.0, 4.0)
RECORD = "temperature.json"
_FOLDS = 5
_SHARE = 10
"""A fit that measures is this much shorter than a last fit."""
_NONE = "temperature 1: this loss and action head leave it without effect"


def check_temperature(config: DistillConfig) -> None:
    """Refuse a choice that has nothing to hold out."""
    if config.temperature == "auto" and config.n_envs == 1:
        raise KDError("temperature auto holds out whole environments: it needs n_envs of 2 or more (got 1)")


def settle_temperature(run: Session, rollout: Rollout) -> Session:
    """The run with its temperature decided; the settings in its folder say so too.

    Args:
        run: The run.
        rollout: Its first round.
    """
    if run.config.temperature != "auto":
        return run
    record = known_choice(run.folder)
    if record is None:
        record = measured(run, rollout)
        run.folder.write_json(RECORD, record)
        run.reporter.say(record["reason"])
    config = replace(run.config, temperature=record["chosen"])
    run.folder.write_text("config.yaml", to_yaml(config))
    return replace(run, config=config)


def known_choice(folder: RunFolder) -> dict[str, Any] | None:
    """What was measured in a run's folder: `chosen`, `by`, `reason`, `candidates`; None where nothing was."""
    return folder.read_json(RECORD) if (folder.path / RECORD).is_file() else None


def recall_temperature(folder: RunFolder, config: DistillConfig) -> DistillConfig:
    """A resumed run's settings, in which `auto` is what it came to be."""
    if not config.resume or config.temperature != "auto" or known_choice(folder) is None:
        return config
    return replace(config, temperature=folder.read_yaml("config.yaml")["temperature"])


def measured(run: Session, rollout: Rollout) -> dict[str, Any]:
    """Fit and score a student for each candidate."""
    by = run.config.choose_by
    if not matters(run, rollout):
        return {"chosen": 1.0, "by": by, "reason": _NONE, "candidates": []}
    scores = {t: held_out(run, rollout, t) for t in CANDIDATES}
    chosen, reason = choose({t: score[by] for t, score in scores.items()}, by)
    rows = [{"temperature": t, **{name: float(x.mean()) for name, x in score.items()}} for t, score in scores.items()]
    return {"chosen": chosen, "by": by, "reason": reason, "folds": len(scores[1.0][by]), "candidates": rows}


def matters(run: Session, rollout: Rollout) -> bool:
    """Whether the loss changes with the temperature, tried on answers of the teacher to other states."""
    head, size = run.teacher.head, min(rollout.driver.size, 256)
    flat = {name: torch.from_numpy(x.reshape(-1, *x.shape[2:])[:size]) for name, x in rollout.arrays().items()}
    target = PolicyOutput(flat["params"], flat.get("value"), {LAYER: flat["layer"]} if "layer" in flat else {})
    other = replace(target, params=target.params.flip(0), features={k: x.flip(0) for k, x in target.features.items()})

    def losses(temperature: float) -> torch.Tensor:
        softening = Softening(temperature, run.config.convention)
        plugins = objective_of(replace(run.config, temperature=temperature)).plugins().values()
        return torch.stack([plugin.loss(other, target, head, softening) for plugin in plugins])

    return not torch.allclose(losses(CANDIDATES[0]), losses(CANDIDATES[-1]), rtol=1e-4)


def held_out(run: Session, rollout: Rollout, temperature: float) -> dict[str, Array]:
    """KL at T = 1 and agreement on each fold `[F]`, by a student that was fitted to the other folds."""
    run = replace(run, config=replace(run.config, temperature=temperature))
    columns = [Rollout.from_arrays({k: x[:, [n]] for k, x in rollout.arrays().items()})
               for n in range(rollout.driver.shape[1])]  # fmt: skip
    folds = min(_FOLDS, len(columns))
    scores = []
    for fold in range(folds):
        student = build_student(run, rollout, 0)
        fit(run, student, [x for n, x in enumerate(columns) if n % folds != fold], seed=run.config.seed * 1_000,
            name=f"temperature {temperature:g}, fold {fold + 1}", steps=run.effort.final_steps // _SHARE)  # fmt: skip
        close = [along(run.teacher, student.policy(), column) for column in columns[fold::folds]]
        scores.append([np.mean([c.kl for c in close]), np.mean([c.agreement for c in close])])
    kl, agreement = np.array(scores).T
    return {"kl": kl, "agreement": agreement}


def choose(scores: Mapping[float, Array], by: str) -> tuple[float, str]:
    """The best temperature and why; 1 where the best is within a standard error of it.

    Args:
        scores: Score of each fold, `[F]`, by temperature.
        by: "kl", where less is better, or "agreement".
    """
    loss = {t: (x if by == "kl" else -x) for t, x in scores.items()}
    best = min(loss, key=lambda t: float(loss[t].mean()))
    gain = loss[1.0] - loss[best]
    error = float(gain.std(ddof=1)) / len(gain) ** 0.5
    found = f"held-out {by} {scores[best].mean():.4g} at {best:g}, {scores[1.0].mean():.4g} at 1"
    tied = best != 1.0 and float(gain.mean()) <= error
    chosen = 1.0 if tied else best
    why = (
        ", within a standard error" if tied else "" if best == 1.0 else f" ({gain.mean() / error:.1f} standard errors)"
    )
    return chosen, f"temperature {chosen:g}: {found}{why}, {len(gain)} folds"
