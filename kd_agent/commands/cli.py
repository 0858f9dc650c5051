"""The command line: every setting is a flag, every wrong input is one line and exit code 2."""

import json
import os
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from kd_agent.errors import KDError, Stopped, unknown
from kd_agent.settings import (
    DistillConfig,
    EvaluateConfig,
    ExplainConfig,
    ExportConfig,
    FollowDriftConfig,
    KickstartConfig,
    RecordConfig,
    RunConfig,
    SearchConfig,
    ServeConfig,
    SweepConfig,
    TasksConfig,
    VerifyConfig,
)
from kd_agent.settings.flags import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `kd-agent COMMAND ...`; returns the exit code."""
    if argv is None:
        argv = sys.argv[1:]
    arguments = list(argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: kd-agent COMMAND [flags]\n")
        for name, (_, _, summary) in _COMMANDS.items():
            print(f"  {name:<14} {summary}")
        return 0
    command, *rest = arguments
    if command not in _COMMANDS:
        return _fail(unknown("command", command, _COMMANDS))
    return run(command, rest)


def run(command: str, argv: Sequence[str]) -> int:
    """One command with its flags.

    Args:
        command: Its name.
        argv: Its flags.

    Returns:
        The exit code: 0; 1 where a claim does not hold; 2 where an input is wrong; 1 where the disk is; 130 or 143
        where it was stopped.
    """
    # Read when NumPy and torch are imported, which is later: nothing heavy is imported for `--help`, or to say that a
    # flag is wrong. One thread, so that the same sums are added in the same order on every machine.
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    # Python lets the main thread alone set handlers; in another, whoever started it decides.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)
    warnings.showwarning = _show_warning
    threading.excepthook = _show_thread_error
    config: Any = None
    try:
        cls, action, summary = _COMMANDS[command]
        config = parse(command, cls, summary, argv)
        return action(config)
    except KDError as error:
        return _fail(error)
    except KeyboardInterrupt as stop:
        # Ctrl-C raises it without a number, `_terminate` with one; 128 + the signal's is the shell's convention.
        code = 130
        if stop.args:
            code = int(stop.args[0])
        print(f"\nstopped{_way_on(config, stop)}", file=sys.stderr)
        return code
    except OSError as error:
        print(f"kd-agent: {error.filename or 'file'}: {error.strerror or error}", file=sys.stderr)
        return 1


def _distill(config: DistillConfig) -> int:
    _say(config, f"distilling {config.env or config.teacher[0]}")
    from kd_agent.distillation.distill import distill

    result = distill(config)
    if config.render:
        # In the environment that the student's file keeps, wrappers and all.
        _render(config, result.student_file, None, result.path)
    if config.strict and not result.shown_to_be_good:
        return 1
    return 0


def _kickstart(config: KickstartConfig) -> int:
    _say(config, f"kickstarting a student for {config.env}")
    from kd_agent.kickstarting.kickstart import kickstart

    kickstart(config)
    return 0


def _train_teacher(config: RunConfig) -> int:
    _say(config, f"training a teacher for {config.env}")
    from kd_agent.ppo.teacher import trained_teacher
    from kd_agent.runs import Reporter

    print(trained_teacher(config, Reporter(quiet=config.quiet, progress=config.progress)))
    return 0


def _evaluate(config: EvaluateConfig) -> int:
    _say(config, f"evaluating {config.student}")
    from kd_agent.evaluation import evaluate_file
    from kd_agent.policies.safe_files import write_atomically

    # Before the episodes are played and not after.
    if config.out and not Path(config.out).absolute().parent.is_dir():
        raise KDError(f"{config.out}: its folder does not exist")
    text = json.dumps(evaluate_file(config), indent=1)
    print(text)
    if config.out:
        write_atomically(Path(config.out), f"{text}\n".encode())
    if config.render:
        policy = Path(config.student)
        _render(config, policy, config.env, policy.parent, config.task)
    return 0


def _compress(config: DistillConfig) -> int:
    _say(config, f"distilling, pruning and quantising a teacher for {config.env}")
    from kd_agent.studies.compression import compress, table

    print(table(compress(config)))
    return 0


def _explain(config: ExplainConfig) -> int:
    _say(config, f"explaining {config.student} beside {', '.join(config.teacher)}")
    from kd_agent.explanations.explain import explain_file, text

    print(text(explain_file(config)))
    _say(config, f"explanation.html and explanation.json: {config.out or Path(config.student).parent}")
    return 0


def _verify(config: VerifyConfig) -> int:
    _say(config, f"verifying {config.run}")
    from kd_agent.evaluation.verification import verify

    for claim in verify(config):
        print(claim, flush=True)
        if not claim.holds:
            return 1
    return 0


def _follow_drift(config: FollowDriftConfig) -> int:
    _say(config, f"following {config.student} in {config.env}")
    from kd_agent.continual.follow_drift import follow_drift

    follow_drift(config)
    return 0


def _export(config: ExportConfig) -> int:
    from kd_agent.deployment.export import export_file

    holds = True
    for line in export_file(config):
        holds = line.holds
        if not (config.quiet and holds):
            print(line.text, flush=True)
    return 0 if holds else 1


def _record(config: RecordConfig) -> int:
    _say(config, f"recording {config.source}")
    from kd_agent.deployment.record import record

    _say(config, record(config))
    return 0


def _serve(config: ServeConfig) -> int:
    from kd_agent.serving.server import serve

    # Standard output is the protocol's.
    _say(config, f"serving {', '.join(config.student)} over standard input and output")
    serve(config)
    return 0


def _distill_tasks(config: TasksConfig) -> int:
    _say(config, f"distilling {', '.join(config.tasks)} into one student")
    from kd_agent.distillation.tasks import distill_tasks

    distill_tasks(config)
    return 0


def _search_settings(config: SearchConfig) -> int:
    _say(config, f"searching settings for {config.env}")
    from kd_agent.studies.settings_search import search_settings, table

    print(table(search_settings(config)))
    return 0


def _zoo_sweep(config: SweepConfig) -> int:
    _say(config, f"distilling the teachers below {config.teachers}")
    from kd_agent.studies.sweep_table import summary
    from kd_agent.studies.zoo_sweep import sweep

    print(summary(sweep(config)))
    return 0


def _render(config: Any, student: Path, env: str | None, folder: Path, task: str | None = None) -> None:
    from kd_agent.rollouts.render import watch

    more: dict[str, Any] = {"wrapper": config.wrapper, "sampled": config.sampled}
    print(watch(student, env, config.env_kwargs, folder, task=task, **more), file=sys.stderr)


_COMMANDS: dict[str, tuple[type[Any], Callable[[Any], int], str]] = {
    "distill": (DistillConfig, _distill, "Distil a teacher into a small student; train the teacher if there is none."),
    "kickstart": (KickstartConfig, _kickstart, "Train a small student by PPO under a teacher that fades."),
    "distill-tasks": (TasksConfig, _distill_tasks, "Distil the teachers of several tasks into one student."),
    "train-teacher": (RunConfig, _train_teacher, "Train a PPO teacher and keep it."),
    "evaluate": (
        EvaluateConfig,
        _evaluate,
        "Play a saved student on seeded episodes, beside a teacher if one is named.",
    ),
    "search-settings": (
        SearchConfig,
        _search_settings,
        "Try temperatures, losses and sizes with Optuna; goes on where --out holds a search.",
    ),
    "zoo-sweep": (SweepConfig, _zoo_sweep, "Distil every teacher below a folder with the defaults."),
    "compress": (DistillConfig, _compress, "Distil, prune and quantise one teacher, alone and combined: one table."),
    "explain": (ExplainConfig, _explain, "What student and teacher look at, and where they disagree and why."),
    "verify": (VerifyConfig, _verify, "Compute, hash and play again what a run folder says of itself."),
    "record": (
        RecordConfig,
        _record,
        "Write what a policy does, or a run's rollouts, as data: an .npz or a Minari dataset.",
    ),
    "follow-drift": (
        FollowDriftConfig,
        _follow_drift,
        "Watch a saved student in a world that drifts, and teach it whenever it falls behind.",
    ),
    "serve": (ServeConfig, _serve, "Serve saved students to a language-model agent: an MCP server over stdio."),
    "export": (
        ExportConfig,
        _export,
        "Write a student or any teacher as ONNX, C, JavaScript, an SB3 zip, an RL Zoo folder or torch.",
    ),
}


def _say(config: Any, text: str) -> None:
    if not config.quiet:
        print(f"kd_agent: {text}", file=sys.stderr, flush=True)


def _fail(error: KDError) -> int:
    print(f"kd-agent: error: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


def _way_on(config: Any, stop: KeyboardInterrupt) -> str:
    """How to go on after a stop: a run folder begun is resumed, anything else starts again."""
    if isinstance(config, DistillConfig | TasksConfig):
        # The run itself knows its folder; one that was to be resumed may be stopped before it is opened.
        folder = stop.folder if isinstance(stop, Stopped) else config.out
        if folder and (Path(folder) / "config.yaml").is_file():
            return f"; finished rounds are kept; go on with: --resume --out {shlex.quote(str(folder))}"
    return "; nothing to go on with yet, start it again"


def _terminate(number: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt(128 + number)


def _show_thread_error(args: threading.ExceptHookArgs) -> None:
    # TensorBoard's thread hands an error of the disk on to the main thread, where it is one line.
    if not issubclass(args.exc_type, OSError):
        threading.__excepthook__(args)


def _show_warning(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
    if issubclass(category, UserWarning):
        print(f"kd-agent: warning: {message}", file=sys.stderr)
