"""The command line: one line and exit code 2 for every wrong input, and nothing half-written."""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

import pytest
from processes import forked
from samples import HEADS, PROBES, ROOT, Agent, flags, make_student, settings

from kd_agent import distill
from kd_agent.commands import cli
from kd_agent.distillation.outcome import Result
from kd_agent.errors import Stopped
from kd_agent.settings import DistillConfig, EvaluateConfig, ExplainConfig, RunConfig, to_yaml

ERROR, ANNOUNCEMENT, WARNING = "kd-agent: error: ", "kd_agent: ", "kd-agent: warning: "
COMMANDS = ("distill", "train-teacher", "evaluate", "explain")
CART_POLE = ["--env", "CartPole-v1"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty folder, and leave the process's handlers as they were."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli.signal, "signal", lambda *arguments: None)
    monkeypatch.setattr(cli.warnings, "showwarning", cli.warnings.showwarning)


@pytest.fixture
def student(tmp_path: Path) -> str:
    """A saved student of the Discrete probe."""
    path = tmp_path / "inputs" / "student.safetensors"
    path.parent.mkdir(exist_ok=True)
    return str(make_student(HEADS["categorical"]).save(path, {"env": PROBES["Discrete"]}))


def refused(command: str, argv: list[str], capsys: pytest.CaptureFixture[str], *, announced: bool = False) -> str:
    """The error's text, after checking code, form, and that nothing was written."""
    assert cli.run(command, argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    errors = [line for line in lines if line.startswith(ERROR)]
    others = [line for line in lines if not line.startswith((ERROR, WARNING))]
    assert len(errors) == 1, err
    assert lines[-1] == errors[0]
    assert len(others) == int(announced), err
    assert all(line.startswith(ANNOUNCEMENT) for line in others), err
    left = sorted(p.name for p in Path().iterdir() if p.name != "inputs")
    assert left == [], f"left behind: {left}"
    return errors[0].removeprefix(ERROR)


SETTINGS: dict[str, tuple[list[str], str]] = {
    "no environment": ([], "--env"),
    "an unknown flag": ([*CART_POLE, "--hiden", "16"], "'--hidden'"),
    "an abbreviated flag": ([*CART_POLE, "--temp", "2"], "--temp"),
    "a stray word": (["CartPole-v1"], "argument 'CartPole-v1'"),
    "a flag without its value": (["--env"], "--env"),
    "a temperature of zero": ([*CART_POLE, "--temperature", "0"], "temperature"),
    "a negative temperature": ([*CART_POLE, "--temperature", "-1"], "temperature"),
    "a temperature that is no number": ([*CART_POLE, "--temperature", "nan"], "temperature"),
    "an infinite temperature": ([*CART_POLE, "--temperature", "inf"], "temperature"),
    "a temperature of text": ([*CART_POLE, "--temperature", "hot"], "'hot'"),
    "a budget of zero": ([*CART_POLE, "--env-steps", "0"], "env_steps"),
    "half a step": ([*CART_POLE, "--env-steps", "0.5"], "env_steps"),
    "a negative seed": ([*CART_POLE, "--seed", "-1"], "seed"),
    "a seed of text": ([*CART_POLE, "--seed", "x"], "seed"),
    "a hidden layer of text": ([*CART_POLE, "--hidden", "16", "x"], "hidden"),
    "a hidden layer of nothing": ([*CART_POLE, "--hidden", "16", "0"], "hidden"),
    "an unknown activation": ([*CART_POLE, "--activation", "rleu"], "activation"),
    "a nested setting": ([*CART_POLE, "--training.gamma", "2"], "training.gamma"),
    "a nested unknown flag": ([*CART_POLE, "--training.gama", "1"], "'--training.gamma'"),
    "a missing config": ([*CART_POLE, "--config", "absent.yaml"], "absent.yaml"),
    "a loss of a bad weight": ([*CART_POLE, "--loss", "kl=much"], "loss"),
    "a loss of broken YAML": ([*CART_POLE, "--loss", "kl=["], "loss"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_a_wrong_setting_is_one_line_before_anything_else(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    argv, words = SETTINGS[case]
    assert words in refused("distill", argv, capsys)


INPUTS: dict[str, tuple[list[str], str]] = {
    "an unknown environment": (["--env", "CartPoel-v1"], "did you mean 'CartPole-v"),
    "an environment of an unknown module": (["--env", "no_such_module:Id-v0"], "no_such_module"),
    "an environment without its argument": ([*CART_POLE, "--env-kwargs", "gravitas=3"], "gravitas"),
    "an unknown student": ([*CART_POLE, "--student", "mpl"], "did you mean 'mlp'"),
    "an unknown loss": ([*CART_POLE, "--loss", "lk"], "unknown loss 'lk'; did you mean 'kl'"),
    "a missing teacher": ([*CART_POLE, "--teacher", "absent.zip"], "absent.zip"),
    "a teacher that is a folder": ([*CART_POLE, "--teacher", "inputs"], "inputs"),
    "a teacher that is nothing known": ([*CART_POLE, "--teacher", "teacher.txt"], "teacher.txt"),
    "an unknown device": ([*CART_POLE, "--device", "abacus"], "'abacus'"),
    "nothing to resume in a folder": ([*CART_POLE, "--resume", "--out", "absent"], "absent"),
}


@pytest.mark.parametrize("case", INPUTS)
def test_a_wrong_input_is_one_line_and_leaves_nothing(
    case: str, student: str, capsys: pytest.CaptureFixture[str]
) -> None:
    argv, words = INPUTS[case]
    argv = argv if "--teacher" in argv or "absent" in argv else [*argv, "--teacher", student]
    assert words in refused("distill", argv, capsys, announced=True)


def test_a_run_that_is_gone_on_with_needs_its_folder(capsys: pytest.CaptureFixture[str]) -> None:
    message = refused("distill", [*CART_POLE, "--resume"], capsys, announced=True)
    assert message == "--resume needs --out, the folder of the run to go on with"
    message = refused("distill-tasks", ["--tasks", "CartPole-v1", "Acrobot-v1", "--resume"], capsys, announced=True)
    assert message == "--resume needs --out, the folder of the run to go on with"


def test_a_config_file_with_a_wrong_key_names_the_nearest(capsys: pytest.CaptureFixture[str], student: str) -> None:
    path = Path(student).with_name("c.yaml")
    for text, words in (("temprature: 2", "'temperature'"), ("training: {gama: 1}", "'gamma'"), ("[", "c.yaml")):
        path.write_text(text)
        assert words in refused("distill", [*CART_POLE, "--config", str(path)], capsys)


def test_a_teacher_that_does_not_fit_the_environment_is_refused(
    student: str, agents: dict[str, Agent], capsys: pytest.CaptureFixture[str]
) -> None:
    for source in (student, str(agents["Discrete"].path)):
        argv = [*CART_POLE, "--teacher", source, "--out", "run"]
        assert source in refused("distill", argv, capsys, announced=True)


def test_a_damaged_teacher_is_refused(student: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("t.zip", "t.safetensors"):
        path = Path(student).with_name(name)
        path.write_bytes(b"damaged")
        assert name in refused("distill", [*CART_POLE, "--teacher", str(path)], capsys, announced=True)


def test_a_folder_that_cannot_be_made_is_refused(student: str, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--env", PROBES["Discrete"], "--teacher", student, "--out", f"{student}/run"]
    assert f"{student}/run" in refused("distill", argv, capsys, announced=True)


def test_a_folder_that_holds_a_run_is_refused_and_left_alone(student: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(student).with_name("run")
    folder.mkdir()
    (folder / "config.yaml").write_text("env: x")
    argv = ["--env", PROBES["Discrete"], "--teacher", student, "--out", str(folder)]
    assert "add --resume" in refused("distill", argv, capsys, announced=True)
    assert (folder / "config.yaml").read_text() == "env: x"


def test_a_student_of_another_environment_is_refused(student: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "acts by categorical" in refused("evaluate", [student, *CART_POLE], capsys, announced=True)
    assert "shape (4,)" in refused("evaluate", [student, "--env", "Acrobot-v1"], capsys, announced=True)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["absent.safetensors"], "absent.safetensors"),
        (["."], "no such file"),
    ],
)
def test_a_student_that_cannot_be_read_is_refused(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in refused("evaluate", argv, capsys, announced=True)


def test_an_evaluation_without_a_student_or_of_no_episodes_is_refused(
    student: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "student is missing" in refused("evaluate", [], capsys)
    assert "episodes" in refused("evaluate", [student, "--episodes", "0"], capsys)
    assert "absent/f.json" in refused("evaluate", [student, "--out", "absent/f.json"], capsys, announced=True)


def test_an_evaluation_prints_and_writes_its_figures(student: str, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [student, "--episodes", "3", "--seed", "7", "--out", "figures.json", "--teacher", student, "--no-progress"]
    assert cli.run("evaluate", argv) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["env"], result["seeds"]) == (PROBES["Discrete"], [7, 10])
    assert len(result["student"]["returns"]) == 3
    assert result[student] == result["student"]
    assert json.loads(Path("figures.json").read_text()) == result


def test_a_command_that_does_not_exist_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["distil"]) == 2
    assert capsys.readouterr().err == f"{ERROR}unknown command 'distil'; did you mean 'distill'?\n"
    assert cli.main(["--help"]) == 0
    assert all(command in capsys.readouterr().out for command in COMMANDS[:1])


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_every_setting_and_imports_nothing_heavy(command: str) -> None:
    code = f"""
import sys
from kd_agent.commands.cli import main
try:
    main([{command!r}, "--help"])
except SystemExit as done:
    assert not done.code
heavy = {{"torch", "stable_baselines3", "gymnasium", "scipy", "matplotlib"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    classes = {
        "distill": DistillConfig,
        "train-teacher": RunConfig,
        "evaluate": EvaluateConfig,
        "explain": ExplainConfig,
    }
    for name in classes[command].__dataclass_fields__:
        if name not in ("training", "student"):
            assert f"--{name.replace('_', '-')}" in done.stdout
    assert ("--training.total-steps" in done.stdout) == (command not in ("evaluate", "explain"))


@pytest.mark.parametrize(
    ("script", "usage"),
    [
        ("distill_policy.py", "distill"),
        ("train_teacher.py", "train-teacher"),
        ("evaluate_policy.py", "evaluate"),
        ("explain_policy.py", "explain"),
    ],
)
def test_each_script_is_its_command(script: str, usage: str) -> None:
    run = [sys.executable, str(ROOT / "scripts" / script)]
    done = subprocess.run([*run, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert f"kd-agent {usage}" in done.stdout
    wrong = subprocess.run([*run, "--no-such-flag"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith(ERROR)
    assert wrong.stderr.count("\n") == 1


KEPT = "finished rounds are kept; go on with: --resume --out"
NOTHING = "nothing to go on with yet, start it again"
STOPS = [
    (Stopped(Path("my runs")), f"{KEPT} 'my runs'", 130),
    (Stopped(Path("run"), 143), f"{KEPT} run", 143),
    (Stopped(Path("run")), NOTHING, 130),
    (KeyboardInterrupt(143), NOTHING, 143),
]


@pytest.mark.parametrize(("stop", "line", "code"), STOPS)
def test_a_stop_says_how_to_go_on_and_where(
    stop: KeyboardInterrupt,
    line: str,
    code: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stopped(config: object) -> int:
        raise stop

    if isinstance(stop, Stopped) and line.startswith(KEPT):
        stop.folder.mkdir()
        (stop.folder / "config.yaml").touch()
    monkeypatch.setitem(cli._COMMANDS, "distill", (DistillConfig, stopped, ""))
    assert cli.run("distill", CART_POLE) == code
    assert capsys.readouterr().err == f"\nstopped; {line}\n"


def test_a_stop_before_a_resumed_run_is_opened_names_the_folder_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(config: object) -> int:
        raise KeyboardInterrupt

    Path("run").mkdir()
    Path("run/config.yaml").write_text(to_yaml(DistillConfig(env="CartPole-v1")))
    monkeypatch.setitem(cli._COMMANDS, "distill", (DistillConfig, stopped, ""))
    assert cli.run("distill", ["--resume", "--out", "run"]) == 130
    assert "go on with: --resume --out run" in capsys.readouterr().err


def test_a_command_may_run_in_another_thread(student: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the main thread may set handlers: a graphical program's worker must not fail at it."""
    monkeypatch.setattr(cli.signal, "signal", lambda *arguments: pytest.fail("a handler was set"))
    codes: list[int] = []
    worker = Thread(target=lambda: codes.append(cli.run("export", [student, "--out", "policy.c", "--quiet"])))
    worker.start()
    worker.join()
    assert codes == [0]


def test_a_full_disk_is_one_line_and_exit_code_1(
    student: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(config: object) -> int:
        raise OSError(28, "No space left on device", "student.safetensors")

    monkeypatch.setitem(cli._COMMANDS, "evaluate", (EvaluateConfig, full, ""))
    assert cli.run("evaluate", [student]) == 1
    assert capsys.readouterr().err == "kd-agent: student.safetensors: No space left on device\n"


@pytest.mark.parametrize(("non_inferior", "better", "code"), [(True, True, 0), (True, False, 1), (False, True, 1)])
def test_strict_exits_with_1_unless_the_student_is_shown_to_be_good(
    non_inferior: bool, better: bool, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = {"verdict": {"non_inferior": non_inferior}, "teacher": {"better_than_random": better}}
    monkeypatch.setattr("kd_agent.distillation.distill.distill", lambda config: Result(figures, tmp_path))
    assert cli.run("distill", [*CART_POLE, "--quiet", "--strict"]) == code
    assert cli.run("distill", [*CART_POLE, "--quiet"]) == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"])
def test_a_signal_leaves_a_folder_to_go_on_with(
    number: int, code: int, agents: dict[str, Agent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings(agents["Discrete"], tmp_path / "run", rounds=12, env_steps=4800, round_steps=150, attempts=1)
    said = tmp_path / "said.txt"

    def script() -> None:
        """As `python scripts/distill_policy.py`, with the handlers of a process that is just begun."""
        monkeypatch.undo()
        # A shell's background jobs ignore SIGINT, and so would their children.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv = ["distill_policy.py", *flags(given)]
        runpy.run_path(str(ROOT / "scripts" / "distill_policy.py"), run_name="__main__")

    child = forked(script, said)
    while not (tmp_path / "run" / "checkpoint" / "round-1.npz").exists():
        assert os.waitpid(child, os.WNOHANG) == (0, 0), said.read_text()
        time.sleep(0.01)
    os.kill(child, number)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code
    assert said.read_text().strip() == (
        f"stopped; finished rounds are kept; go on with: --resume --out {tmp_path / 'run'}"
    )
    assert not (tmp_path / "run" / "result.json").exists()
    result = distill({"env": given["env"], "out": given["out"], "resume": True, "quiet": True})
    assert result["cost"]["env_steps"] >= 4800


def test_a_threads_error_of_the_disk_is_no_traceback_and_any_other_is(
    student: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[type[BaseException]] = []
    monkeypatch.setattr(cli.threading, "excepthook", cli.threading.excepthook)
    monkeypatch.setattr(cli.threading, "__excepthook__", lambda args: shown.append(args.exc_type))
    assert cli.run("export", [student, "--out", "policy.c", "--quiet"]) == 0
    for error in (OSError(28, "No space left on device"), ValueError("wrong")):
        cli.threading.excepthook(cli.threading.ExceptHookArgs((type(error), error, None, None)))
    assert shown == [ValueError]
    assert capsys.readouterr().err == ""
