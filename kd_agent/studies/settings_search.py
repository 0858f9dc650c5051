"""A search over temperature, loss and size with Optuna: as little loss of return from as few parameters as can be.

All trials share the states of one run's rounds; a trial is one final fit with other settings, and a validation.
Optuna's sampler is seeded anew for each trial and told of the finished ones, so that a search that was stopped goes on
as if it had not been: only the trial in progress is lost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from kd_agent import plugins
from kd_agent.distillation.checks import Use, check_losses
from kd_agent.distillation.dagger import collect_rounds
from kd_agent.distillation.fitting import build_student, fit
from kd_agent.distillation.problem import Problem
from kd_agent.distillation.size_search import ladder
from kd_agent.distillation.validation import Validation
from kd_agent.errors import KDError
from kd_agent.evaluation.statistics import mean_interval
from kd_agent.losses import needs
from kd_agent.rollouts import Rollout
from kd_agent.runs import CONFIG_FILE, Run, RunFolder
from kd_agent.settings import SearchConfig

RESULT = "search.json"
BEST = "best.yaml"
TEMPERATURES = (0.25, 4.0)
"""The lowest and the highest."""
_ONLY_FITS = "search-settings only fits students and validates them: leave out --"
_USE = Use(
    refuses={
        "search_size": _ONLY_FITS + "search-size",
        "control": _ONLY_FITS + "control",
        "then_ppo": _ONLY_FITS + "then-ppo",
        "render": _ONLY_FITS + "render",
        "realtime": _ONLY_FITS + "realtime",
        "label_budget": _ONLY_FITS + "label-budget",
    }
)
_COLUMNS = frozenset({"number", "hidden", "loss", "temperature", "parameters", "mean", "regret", "decision"})
"""What is known of a trial."""
_GUESSES = 5
"""Trials drawn at random before the sampler (TPE, Bergstra et al. 2011) goes by the others."""


def search_settings(config: SearchConfig) -> dict[str, Any]:
    """Try settings until there are as many trials as asked for; go on where the folder holds some already.

    Returns:
        The content of `search.json`; `best.yaml` beside it holds the settings of `best`.

    Raises:
        KDError: Optuna is missing, or an input is wrong.
    """
    if find_spec("optuna") is None:
        raise KDError("search-settings needs the package optuna: pip install optuna")
    _check(config)
    problem = Problem.of(config, use=_USE)
    if config.out:
        # A search needs no flag to go on: more trials are what one asks for by asking again.
        begun = RunFolder(Path(config.out)).holds_file(CONFIG_FILE)
        problem = replace(problem, config=replace(config, resume=begun))
    with problem.begin() as run:
        rounds = collect_rounds([run])
        rounds.close()
        return _searched(run, rounds.data[0], config.trials)


def table(result: Mapping[str, Any]) -> str:
    """The trials that no other one equals or beats in both respects, the smallest first."""
    rows = sorted(front(result["trials"]), key=lambda row: row["parameters"])
    lines = [f"{'parameters':>10} {'loss of return':>15} {'mean':>8}  settings"]
    for row in rows:
        mark = ""
        if row["number"] == result["best"]["number"]:
            mark = "  <- best"
        lines.append(f"{row['parameters']:>10,} {row['regret']:>13.1f} % {row['mean']:>8.1f}  {_words(row)}{mark}")
    return "\n".join(lines)


def front(trials: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The trials that none equals or beats in both parameters and loss of return (of equals the first)."""
    kept = []
    for row in trials:
        if not any(_beats(other, row) for other in trials):
            kept.append(row)
    return kept


def _beats(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether one trial is as good as another in both respects, and better in one or earlier."""
    if one["parameters"] > other["parameters"] or one["regret"] > other["regret"]:
        return False
    better = one["parameters"] < other["parameters"] or one["regret"] < other["regret"]
    return bool(better or one["number"] < other["number"])


def best_of(trials: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The smallest that is shown to hold the teacher's return; where none does, the one that loses the least."""
    holding = [row for row in trials if row["decision"] == "non-inferior"]
    if holding:
        return min(holding, key=lambda row: (row["parameters"], row["regret"]))
    return min(trials, key=lambda row: row["regret"])


def _check(config: SearchConfig) -> None:
    if config.student == "tree":
        raise KDError("search-settings searches over hidden layers, and a tree has none; its size is --leaves")
    if config.temperature == "auto":
        raise KDError("search-settings looks for a temperature itself: leave out --temperature auto")


def _searched(run: Run, rollouts: Sequence[Rollout], count: int) -> dict[str, Any]:
    sizes = ladder(run, rollouts[0])
    losses = _losses(run)
    validation = Validation(run)
    trials = _known(run.folder)
    while len(trials) < count:
        asked = _ask(run, trials, sizes, losses)
        row = {"number": len(trials), **asked, **_tried(run, rollouts, validation, asked, len(trials))}
        trials.append(row)
        _write(run, trials)
        run.reporter.say(
            f"trial {len(trials)} of {count}: {_words(row)}: {row['parameters']:,} parameters, validation "
            f"{row['mean']:.1f}, {row['regret']:.1f} % lost, {row['decision']}"
        )
    return _write(run, trials)


def _ask(
    run: Run, trials: Sequence[Mapping[str, Any]], sizes: list[tuple[int, ...]], losses: list[str]
) -> dict[str, Any]:
    """The next settings: first those of the run itself, then what Optuna suggests."""
    import optuna  # noqa: PLC0415 - an extra

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = {
        "size": optuna.distributions.IntDistribution(0, len(sizes) - 1),
        "loss": optuna.distributions.CategoricalDistribution(losses),
        "temperature": optuna.distributions.FloatDistribution(*TEMPERATURES, log=True),
    }
    if not trials:
        return {"hidden": list(sizes[-1]), "loss": losses[0], "temperature": run.plan.temperature}
    sampler = optuna.samplers.TPESampler(seed=run.seed("sampler", len(trials)) % 2**32, n_startup_trials=_GUESSES)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    # Optuna's own storage would be a database beside the run: what it has to know is told it anew.
    for row in trials:
        params = {"size": sizes.index(tuple(row["hidden"])), "loss": row["loss"], "temperature": row["temperature"]}
        values = [row["regret"], float(row["parameters"])]
        study.add_trial(optuna.trial.create_trial(params=params, distributions=space, values=values))
    found = study.ask(space).params
    return {"hidden": list(sizes[found["size"]]), "loss": found["loss"], "temperature": found["temperature"]}


def _tried(
    run: Run, rollouts: Sequence[Rollout], validation: Validation, asked: Mapping[str, Any], number: int
) -> dict[str, Any]:
    """One final fit under the settings asked for, and its validation."""
    sized = run.planned(hidden=tuple(asked["hidden"]), loss={asked["loss"]: 1.0}, temperature=asked["temperature"])
    name = f"trial {number + 1}"
    student = build_student(sized, rollouts[0], number)
    fit(sized, student, rollouts, name=name, steps=run.plan.final_steps, seed=run.seed("fit", number))
    policy = student.policy()
    returns = validation.episodes.play(policy, name, run.plan.exam_episodes)
    verdict = validation.verdict(returns, error=validation.error_at(len(returns)))
    scale = verdict.margin / run.config.margin
    return {
        "parameters": policy.num_parameters,
        "mean": float(np.mean(returns)),
        "mean_ci": list(mean_interval(returns)),
        # In per cent of what the teacher earns beyond the random policy; where that is nothing, nothing can be lost.
        "regret": -100 * verdict.difference / scale if scale else 0.0,
        "decision": verdict.decision,
    }


def _losses(run: Run) -> list[str]:
    """The losses that can stand alone here: the run's own first, then all that compare actions and serve the head."""
    first = next(iter(run.plan.loss))
    others = [name for name in plugins.names("losses") if name != first and _serves(name, run)]
    return [first, *others]


def _serves(name: str, run: Run) -> bool:
    if needs([name]):
        return False
    try:
        check_losses(replace(run.plan, loss={name: 1.0}), run.teacher, run.observed)
    except KDError:
        return False
    return True


def _known(folder: RunFolder) -> list[dict[str, Any]]:
    if not folder.holds_file(RESULT):
        return []
    with folder.reading(RESULT):
        trials = list(folder.read_json(RESULT)["trials"])
        for row in trials:
            missing = _COLUMNS.difference(row)
            if missing:
                raise KDError(f"a trial lacks {', '.join(sorted(missing))}")
    return trials


def _write(run: Run, trials: list[dict[str, Any]]) -> dict[str, Any]:
    best = best_of(trials)
    settings = {"hidden": best["hidden"] or 0, "loss": {best["loss"]: 1.0}, "temperature": best["temperature"]}
    run.folder.write_text(BEST, yaml.safe_dump(settings, sort_keys=False))
    result = {
        "format": 1,
        "env": run.recipe.env_id,
        "seed": run.config.seed,
        "teacher_sha256": run.teacher.origin.sha256,
        "best": best,
        "trials": trials,
    }
    run.folder.write_json(RESULT, result)
    return result


def _words(row: Mapping[str, Any]) -> str:
    hidden = " ".join(map(str, row["hidden"])) or "0"
    return f"hidden {hidden}, loss {row['loss']}, temperature {row['temperature']:.3g}"
