"""The loop, top to bottom: collect -> aggregate -> fit -> (reinforce) -> evaluate -> save."""

from collections.abc import Mapping
from typing import Any

from kd_agent.distillation.many_seeds import distill_seeds
from kd_agent.distillation.outcome import Fitted, Result, judge_student, write_result
from kd_agent.distillation.problem import Problem
from kd_agent.distillation.strategies import strategy_of
from kd_agent.distillation.temperature import known_choice
from kd_agent.distillation.then_ppo import say_overtook, then_ppo
from kd_agent.networks import Teacher
from kd_agent.ppo.control import add_control
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
    if config.seeds > 1:
        return distill_seeds(config, teacher)
    strategy = strategy_of(config, teacher)
    problem = Problem.of(config, teacher)
    with problem.begin(strategy) as run:
        rounds = strategy.collect(run)
        fitted = strategy.final_fit(rounds)
        rounds.close()
        return finish(then_ppo(fitted))


def finish(fitted: Fitted) -> Result:
    """Judge a student, unless that has been done, and write the result; the content of `result.json`."""
    run = fitted.run
    result = fitted.verdict or judge_student(run, fitted.student)
    result |= fitted.figures
    say_overtook(result)
    choice = known_choice(run.folder)
    if choice:
        result["temperature"] = choice
    if run.config.control:
        add_control(run, result)
    return write_result(run, result)
