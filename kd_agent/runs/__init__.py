"""A run's folder, plan, seeds and costs, and what it shows."""

from kd_agent.runs.costs import PPO_SELECTION_STEPS, PPO_STEPS, Costs
from kd_agent.runs.folder import (
    CONFIG_FILE,
    RESULT_FILE,
    STUDENT_FILE,
    TEACHER_FILE,
    RunFolder,
    checkpoint_file,
    choose_folder,
    folder_name,
    open_run,
)
from kd_agent.runs.plan import Plan
from kd_agent.runs.record import compare_settings, play_of, provenance, remember
from kd_agent.runs.reporter import Advance, Reporter
from kd_agent.runs.run import Run

__all__ = [
    "CONFIG_FILE",
    "PPO_SELECTION_STEPS",
    "PPO_STEPS",
    "RESULT_FILE",
    "STUDENT_FILE",
    "TEACHER_FILE",
    "Advance",
    "Costs",
    "Plan",
    "Reporter",
    "Run",
    "RunFolder",
    "checkpoint_file",
    "choose_folder",
    "compare_settings",
    "folder_name",
    "open_run",
    "play_of",
    "provenance",
    "remember",
]
