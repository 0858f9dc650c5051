"""What a run remembers of itself between processes, and what a student's file says of where it comes from."""

from typing import Any

import kd_agent
from kd_agent.errors import KDError
from kd_agent.policies import PLAY, SAMPLED
from kd_agent.runs.folder import CONFIG_FILE, TEACHER_FILE, RunFolder
from kd_agent.runs.run import Run
from kd_agent.settings import DistillConfig, plain, to_yaml

_PRESENTATION = frozenset({"out", "resume", "render", "progress", "quiet", "strict", "trials", "step_timeout"})
"""Settings that do not change a run's result."""
_SAID_WHERE_SO = ("sampled", "label_budget", "then_ppo")
"""Settings that a student's file has only where they are asked for: other files are the same bytes as ever."""


def remember(run: Run) -> None:
    """Write settings and teacher into the run folder, or hold them against what lies there.

    Raises:
        KDError: The run was begun under other settings or with another teacher.
    """
    folder = run.folder
    origin = run.teacher.origin
    if run.config.resume:
        compare_settings(folder, run.settings())
        # The name of a teacher's file says nothing: its bytes are what the labels follow from.
        with folder.reading(TEACHER_FILE):
            known = str(folder.read_json(TEACHER_FILE)["sha256"])
        if known != origin.sha256:
            # Of a function, only its code and what it holds can tell whether it is the same.
            hint = "; a function must be the same, with the same in it" if origin.algo == "function" else ""
            raise KDError(f"{folder.path}: was begun with another teacher (sha256 {known[:12]}...){hint}")
    # The settings last: they say that the folder holds a run.
    folder.write_json(TEACHER_FILE, vars(origin))
    folder.write_text(CONFIG_FILE, to_yaml(run.settings()))


def compare_settings(folder: RunFolder, config: Any) -> None:
    """Refuse to go on under other settings than a run was begun with.

    Args:
        folder: The run folder, with its settings in it.
        config: The settings asked for now.

    Raises:
        KDError: One of them differs; the message names it.
    """
    stored = folder.read_yaml(CONFIG_FILE)
    asked = plain(config)
    for name in sorted(set(asked) - _PRESENTATION):
        if stored.get(name) != asked[name]:
            raise KDError(f"{folder.path}: was begun with {name} = {stored.get(name)}, not {asked[name]}")


def provenance(run: Run) -> dict[str, Any]:
    """What the student's file says of where it comes from: environment, teacher, and the plan that ran."""
    settings = plain(run.settings())
    # The same run gives the same file, wherever it is written and however it is shown.
    for name in _PRESENTATION:
        settings.pop(name, None)
    for name in _SAID_WHERE_SO:
        if not settings[name]:
            del settings[name]
    # Of recorded data there may be none: whoever plays the student names it.
    environment = {"env": run.recipe.env_id, "recipe": run.recipe.to_json()} if run.recipe.env_id else {}
    return {
        **environment,
        **play_of(run.config),
        "kd_agent": kd_agent.__version__,
        "teacher_sha256": run.teacher.origin.sha256,
        "teacher_algo": run.teacher.origin.algo,
        "config": settings,
    }


def play_of(config: DistillConfig) -> dict[str, str]:
    """What a provenance says of how the policy is played: nothing of one that is played greedily."""
    return {PLAY: SAMPLED} if config.sampled else {}
