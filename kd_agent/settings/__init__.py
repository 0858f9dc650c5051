"""What a command can be told: one set of names for YAML, flags and keyword arguments, and one validator."""

from kd_agent.settings.commands import (
    EvaluateConfig,
    ExplainConfig,
    FollowDriftConfig,
    KickstartConfig,
    SweepConfig,
    TasksConfig,
)
from kd_agent.settings.distill import DistillConfig, RunConfig, SearchConfig, TrainingConfig
from kd_agent.settings.export import ExportConfig
from kd_agent.settings.record import RecordConfig
from kd_agent.settings.resolve import config_folder, env_defaults, plain, resolve, shared_settings, to_yaml, validate
from kd_agent.settings.serve import ServeConfig
from kd_agent.settings.typed import check_arguments, registered
from kd_agent.settings.types import MINARI, Activation, names_recording, read_arguments
from kd_agent.settings.verification import VerifyConfig
from kd_agent.settings.yaml_file import read_mapping

__all__ = [
    "MINARI",
    "Activation",
    "DistillConfig",
    "EvaluateConfig",
    "ExplainConfig",
    "ExportConfig",
    "FollowDriftConfig",
    "KickstartConfig",
    "RecordConfig",
    "RunConfig",
    "SearchConfig",
    "ServeConfig",
    "SweepConfig",
    "TasksConfig",
    "TrainingConfig",
    "VerifyConfig",
    "check_arguments",
    "config_folder",
    "env_defaults",
    "names_recording",
    "plain",
    "read_arguments",
    "read_mapping",
    "registered",
    "resolve",
    "shared_settings",
    "to_yaml",
    "validate",
]
