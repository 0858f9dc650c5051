"""The door out: the command and the function write whatever they are given, and the command checks the file."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported import metadata
from samples import PROBES, ROOT, Agent, make_graph
from small_agents import trained
from stable_baselines3 import PPO

import kd_agent
from kd_agent import KDError, load_policy, load_teacher, plugins
from kd_agent.commands import cli
from kd_agent.deployment.export import export, export_file
from kd_agent.export import Played, Steps
from kd_agent.policies import file as graph_file
from kd_agent.policies.policy import Policy
from kd_agent.settings import ExportConfig

PROBE = PROBES["Discrete"]


@pytest.fixture(autouse=True)
def handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the process's handlers as they were."""
    monkeypatch.setattr(cli.signal, "signal", lambda *arguments: None)
    monkeypatch.setattr(cli.warnings, "showwarning", cli.warnings.showwarning)


@pytest.fixture
def student(tmp_path: Path) -> str:
    return str(graph_file.write(make_graph(provenance={"env": PROBE}), tmp_path / "s.safetensors"))


def test_the_function_takes_whatever_is_an_agent(agents: dict[str, Agent], tmp_path: Path, student: str) -> None:
    path = agents["Discrete"].path
    zips = (path, str(path), load_teacher(str(path)), agents["Discrete"].model, agents["Discrete"].model.predict)
    texts = {kd_agent.export(source, tmp_path / "p.mjs")[0].read_bytes() for source in zips}
    assert len(texts) == 1
    students = (student, Path(student), load_policy(student), load_policy(student).graph)
    assert len({kd_agent.export(source, tmp_path / "p.mjs")[0].read_bytes() for source in students}) == 1
    assert kd_agent.export is export


def test_an_environment_that_is_typed_stands_in_the_file(agents: dict[str, Agent], tmp_path: Path) -> None:
    [path] = export(agents["Discrete"].path, tmp_path / "p.onnx", env=PROBE)
    found = metadata(path)
    assert found["env"] == PROBE
    assert found["observations"]["obs"]["shape"] == [4]
    assert found["head"]["kind"] == "categorical"
    [path] = export(make_graph(), tmp_path / "p.mjs", env=PROBE)
    assert f"Policy for {PROBE}." in path.read_text()


def test_names_of_numbers_and_actions_stand_in_the_file(public_teachers: Path, tmp_path: Path) -> None:
    [path] = export(public_teachers / "dqn-LunarLander-v2", tmp_path / "p.onnx")
    found = metadata(path)
    assert found["env"] == "LunarLander-v3"
    assert found["features"]["obs"][:2] == ["x", "y"]
    assert found["actions"] == ["no engine", "left engine", "main engine", "right engine"]


def test_a_task_of_several_is_named(tmp_path: Path, student: str) -> None:
    with pytest.raises(KDError, match="no task 'Other-v0'"):
        export(student, tmp_path / "p.c", task="Other-v0")
    with pytest.raises(KDError, match="no task 'Other-v0'"):
        list(export_file(ExportConfig(source=student, out=str(tmp_path / "p.c"), task="Other-v0")))


def test_the_command_writes_and_checks(agents: dict[str, Agent], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = str(agents["Discrete"].path)
    out = tmp_path / "policy.mjs"
    assert cli.run("export", [source, "--out", str(out), "--env", PROBE]) == 0
    path, said = capsys.readouterr().out.splitlines()
    assert path == str(out)
    assert said == "policy.mjs: the same action on 1,024 of 1,024 visited observations (in node)"
    assert cli.run("export", [source, "--out", str(out)]) == 0
    found = capsys.readouterr()
    assert "1,024 of 1,024 random observations" in found.out
    assert "warning: checked on random observations: " in found.err
    assert "does not say what its environment is" in found.err


def test_a_file_that_acts_otherwise_ends_the_command_with_1(
    student: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    asked: list[Steps] = []

    def play(path: Path, graph: Any, steps: Steps) -> Played:
        asked.append(steps)
        return Played((Policy(graph).predict(steps.observations, deterministic=True)[0] + 1) % 4, "by hand")

    monkeypatch.setattr(plugins.load("export", "c"), "play", play)
    command = [student, "--out", str(tmp_path / "p.c")]
    assert cli.run("export", [*command, "--quiet"]) == 1
    assert capsys.readouterr().out.startswith("p.c: another action on 1,024 of 1,024 visited observations (by hand)")
    # Who asks for weights of 8 bits is told, and has what was asked for.
    assert cli.run("export", [*command, "--int8"]) == 0
    assert "another action on 1,024 of 1,024" in capsys.readouterr().out
    assert len(asked) == 2
    assert cli.run("export", [*command, "--no-check"]) == 0
    assert len(asked) == 2
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "p.c"), str(tmp_path / "p.h")]


def test_an_onnx_model_is_a_source_too(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    [model] = export(make_graph("categorical", {"env": PROBE}), tmp_path / "model.onnx")
    assert cli.run("export", [str(model), "--out", str(tmp_path / "p.c")]) == 2
    assert "name the environment (--env)" in capsys.readouterr().err
    assert cli.run("export", [str(model), "--out", str(tmp_path / "p.c"), "--env", PROBE]) == 0
    assert "p.c: the same action on 1,024 of 1,024 visited observations" in capsys.readouterr().out


def test_a_quiet_command_says_nothing_where_all_is_well(
    student: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert cli.run("export", [student, "--out", str(tmp_path / "p.onnx"), "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_settings_reach_the_reader_and_the_format(
    agents: dict[str, Agent], student: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, Any] = {}
    reader = sys.modules["kd_agent.deployment.agents"]

    def load(source: str, **how: Any) -> None:
        told.update(how)
        raise KDError("seen")

    monkeypatch.setattr(reader, "load_teacher", load)
    source = str(agents["Discrete"].path)
    for missing in (True, False):
        settings: dict[str, Any] = {"statistics": "v.pkl", "allow_missing_statistics": missing, "env": PROBE}
        settings["onnx_output"] = f"{missing}"
        settings |= {"teacher_activation": "relu", "teacher_squash": "clip"} if missing else {}
        with pytest.raises(KDError, match="seen"):
            list(export_file(ExportConfig(source=source, out=str(tmp_path / "p.c"), **settings)))
        assert (told["statistics"], told["allow_missing_statistics"]) == ("v.pkl", missing)
        assert (told["env"][0].shape, told["onnx_output"]) == ((4,), f"{missing}")
        assumed = (told["teacher_activation"], told["teacher_squash"])
        assert assumed == (("relu", "clip") if missing else (None, None))
    monkeypatch.undo()
    config = ExportConfig(source=student, out=str(tmp_path / "p.c"), prefix="mine", int8=True, check=False)
    list(export_file(config))
    text = (tmp_path / "p.c").read_text()
    assert "mine_act" in text
    assert "int8_t" in text
    config = ExportConfig(source=student, out=str(tmp_path / "Lander"), to="arduino", board="unno", check=False)
    with pytest.raises(KDError, match="unknown board 'unno'"):
        list(export_file(config))


def test_kwargs_and_wrappers_reach_the_environment(student: str, tmp_path: Path) -> None:
    wrapper = "gymnasium.wrappers:FlattenObservation"
    out = tmp_path / "p.onnx"
    given = ["--env", PROBE, "--env-kwargs", "action=Discrete", "--wrapper", wrapper, "--no-check", "--quiet"]
    assert cli.run("export", [student, "--out", str(out), *given]) == 0
    config = ExportConfig(source=student, out=str(out), env=PROBE, env_kwargs={"nonsense": 1}, check=False)
    with pytest.raises(KDError, match="refuses its arguments"):
        list(export_file(config))


def test_a_typed_environment_is_the_one_of_the_zip(tmp_path: Path) -> None:
    files = export(make_graph(provenance={"env": "nowhere-v0"}), tmp_path / "p.zip", env=PROBE)
    low = PPO.load(files[0], device="cpu").observation_space.low
    assert np.isfinite(low).all()
    files = export(make_graph(provenance={"env": "nowhere-v0"}), tmp_path / "p.zip")
    assert not np.isfinite(PPO.load(files[0], device="cpu").observation_space.low).any()


@pytest.mark.parametrize("case", ["sac", "td3", "ppo gsde, squashed"])
def test_no_zip_is_written_of_actions_through_tanh_whatever_the_environment(case: str, tmp_path: Path) -> None:
    path = trained(case)[2]
    with pytest.raises(KDError, match="formats that can: "):
        export(path, tmp_path / "p.zip")
    squashed = make_graph("squashed_gaussian", {"env": PROBES["Box"]})
    fitting = replace(squashed, head=replace(squashed.head, low=(-1.0, -1.0), high=(1.0, 1.0)))
    with pytest.raises(KDError, match="its actions go through tanh; formats that can: "):
        export(fitting, tmp_path / "p.zip")
    assert list(tmp_path.iterdir()) == []


def test_who_writes_a_student_or_checks_nothing_needs_no_torch(student: str, tmp_path: Path) -> None:
    code = f"""
import sys
from kd_agent.commands.cli import main
assert main(["export", {student!r}, "--out", {str(tmp_path / "p.c")!r}, "--no-check", "--quiet"]) == 0
heavy = {{"torch", "stable_baselines3", "onnx", "scipy"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


WATCH = """
import json, sys
seen = []
def hook(event, args):
    if event == "pickle.find_class":
        seen.append(str(args))
from kd_agent.commands.cli import main
sys.addaudithook(hook)
codes = [main(["export", source, "--out", out, "--quiet"]) for source, out in json.load(sys.stdin)]
print(json.dumps([codes, seen]))
"""


def test_nothing_is_unpickled_from_agent_to_checked_file(public_teachers: Path, tmp_path: Path) -> None:
    """Statistics are a pickle, and so are parts of a zip; the file that was written is read back without one too."""
    names = ("ppo-Acrobot-v1", "qrdqn-CartPole-v1")
    asked = []
    for name in names:
        for suffix in ("c", "mjs", "js", "onnx", "zip"):
            asked.append([str(public_teachers / name), str(tmp_path / f"{name}.{suffix}")])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WATCH],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "envs")])},
    )
    assert done.returncode == 0, done.stderr
    codes, seen = json.loads(done.stdout.splitlines()[-1])
    assert codes == [0] * len(asked)
    assert seen == []
