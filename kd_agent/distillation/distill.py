"""The loop, top to bottom: collect -> aggregate -> fit -> evaluate -> save."""

from collections.abc import Mapping
from typing import Any

from kd_agent import plugins
from kd_agent.distillation.final_fits import FinalFits
from kd_agent.distillation.online import Online
from kd_agent.distillation.outcome import Fitted, Result, judge_student
from kd_agent.distillation.problem import Problem
from kd_agent.distillation.size_search import SizeSearch
from kd_agent.distillation.temperature import known_choice
from kd_agent.networks import Teacher
from kd_agent.ppo.control import add_control
from kd_agent.runs import RESULT_FILE
from kd_agent.settings import DistillConfig, resolve


def distill(config: DistillConfig | Mapping[str, Any], teacher: Teacher | None = None) -> Result:
    """Distil a teacher into a small student and judge it.

    Args:
        config: Settings, or a mapping of those that differ from the defaults.
        teacher: A teacher made by `load_teacher` from a function or a torch module, say; default: the one
            that the settings name, or one that is trained.

    Returns:
        The content of `result.json`, and with it the student and the run folder.

    Raises:
        KDError: An input is wrong; nothing half-written is left.
    """
    if not isinstance(config, DistillConfig):
        config = resolve(DistillConfig, config)
    strategy = strategy_of(config)
    problem = Problem.of(config, teacher)
    with problem.begin(strategy) as run:
        rounds = strategy.collect(run)
        fitted = strategy.final_fit(rounds)
        rounds.close()
        return finish(fitted)


def strategy_of(config: DistillConfig) -> FinalFits:
    """How the student is to come about.

    Raises:
        KDError: The settings do not go with it.
    """
    if config.realtime:
        strategy: FinalFits = Online()
    elif config.search_size:
        strategy = SizeSearch()
    else:
        strategy = FinalFits()
    strategy.check(config)
    return strategy


def finish(fitted: Fitted) -> Result:
    """Judge a student, unless that has been done, and write the result; the content of `result.json`."""
    run = fitted.run
    result = fitted.verdict or judge_student(run, fitted.student)
    result |= fitted.figures
    choice = known_choice(run.folder)
    if choice:
        result["temperature"] = choice
    if run.config.control:
        add_control(run, result)
    result["cost"] = run.costs.to_json()
    # Loaded when it is needed: its plots take a second to import.
    plugins.load("report", "html").write(run.folder, result)
    # The last file: it says that the run is finished.
    run.folder.write_json(RESULT_FILE, result)
    return Result(result, run.folder.path)
