"""The whole loop in small: every action space, the same bits again, and learning that is real."""

import json
import os
import subprocess
from hashlib import sha256
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import yaml
from samples import PROBES, TINY, Agent, command, labelled, make_student, settings

from kd_agent import KDError, distill, load_policy, load_teacher
from kd_agent.evaluation import agreement
from kd_agent.evaluation.agreement import agreement_on
from kd_agent.plugins import load
from kd_agent.rollouts.evaluate import evaluate
from kd_agent.runs.folder import RunFolder
from kd_agent.settings import DistillConfig, plain, resolve

FILES = ("student.safetensors", "result.json", "config.yaml", "report.html", "teacher.json")


LAYOUT: dict[str, Any] = {
    "format": int,
    "env": str,
    "seed": int,
    "teacher": {
        "source": str,
        "sha256": str,
        "algo": str,
        "parameters": int,
        "returns": list,
        "mean": float,
        "mean_ci": list,
        "iqm": float,
        "iqm_ci": list,
        "lower_tail": float,
        "minimum": float,
    },
    "student": {
        "file": str,
        "sha256": str,
        "bytes": int,
        "parameters": int,
        "returns": list,
        "mean": float,
        "mean_ci": list,
        "iqm": float,
        "iqm_ci": list,
        "lower_tail": float,
        "minimum": float,
        "kl": float,
        "agreement": float,
    },
    "random": {"returns": list, "mean": float, "mean_ci": list, "iqm": float, "lower_tail": float},
    "verdict": {
        "non_inferior": bool,
        "decision": str,
        "episodes": int,
        "margin": float,
        "difference": float,
        "difference_ci": list,
        "compression": float,
    },
    "cost": {
        "env_steps": int,
        "all_env_steps": int,
        "collect_steps": int,
        "validation_steps": int,
        "selection_steps": int,
        "verdict_steps": int,
        "agreement_steps": int,
        "gradient_steps": int,
        "teacher_s": float,
        "distill_s": float,
        "evaluate_s": float,
        "teacher_cpu_s": float,
        "distill_cpu_s": float,
        "evaluate_cpu_s": float,
    },
}
"""What the contract promises of `result.json`."""


def missing(layout: dict[str, Any], found: dict[str, Any], path: str = "") -> list[str]:
    wrong = []
    for key, kind in layout.items():
        if isinstance(kind, dict):
            wrong += missing(kind, found.get(key, {}), f"{path}{key}.")
        elif type(found.get(key)) is not kind:
            wrong.append(f"{path}{key}: {found.get(key)!r}")
    return wrong


def test_the_result_has_all_that_the_contract_promises(runs: dict[str, Any], space_name: str, agent: Agent) -> None:
    folder, result = runs[space_name]
    assert json.loads((folder / "result.json").read_text()) == result
    assert missing(LAYOUT, result) == []
    teacher, student, verdict = result["teacher"], result["student"], result["verdict"]
    raw = (folder / "student.safetensors").read_bytes()
    assert (student["bytes"], student["sha256"]) == (len(raw), sha256(raw).hexdigest())
    assert teacher["sha256"] == sha256(agent.path.read_bytes()).hexdigest()
    assert len(teacher["returns"]) == len(student["returns"]) == verdict["episodes"] == 6
    assert verdict["compression"] == pytest.approx(teacher["parameters"] / student["parameters"])
    assert verdict["difference"] == pytest.approx(student["mean"] - teacher["mean"])
    assert verdict["decision"] in ("non-inferior", "inferior", "undecided")
    assert 0 <= student["agreement"] <= 1
    assert result["cost"]["env_steps"] >= 480
    assert result["cost"]["gradient_steps"] >= 2 * 20 + 60


def test_the_run_folder_holds_a_student_that_plays(runs: dict[str, Any], space_name: str, agent: Agent) -> None:
    folder, result = runs[space_name]
    assert all((folder / name).is_file() for name in FILES)
    assert list(folder.glob("events.out.tfevents.*"))
    assert not list(folder.rglob("*.tmp"))
    policy = load_policy(folder / "student.safetensors")
    assert policy.env_id == agent.env_id
    assert policy.num_parameters == result["student"]["parameters"]
    played = evaluate(policy, agent.env_id, seeds=range(20_000, 20_006))
    assert played.returns.tolist() == result["student"]["returns"]


def test_the_settings_in_the_folder_are_those_of_the_run(runs: dict[str, Any], agents: dict[str, Agent]) -> None:
    folder, _ = runs["Box"]
    again = resolve(DistillConfig, {"env": PROBES["Box"]}, str(folder / "config.yaml"))
    asked, found = plain(resolve(DistillConfig, settings(agents["Box"], folder))), plain(again)
    assert found == {name: found[name] if value is None else value for name, value in asked.items()}
    assert found["loss"] == {"mse": 1.0}
    assert None not in (found["student"], found["hidden"], found["env_steps"], found["learning_rate"])


def test_the_report_escapes_what_it_prints_and_needs_nothing_else(runs: dict[str, Any], tmp_path: Path) -> None:
    _, result = runs["Discrete"]
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
    hostile = {**result, "env": evil, "teacher": {**result["teacher"], "source": evil, "algo": evil}}
    load("report", "html").write(RunFolder(tmp_path), hostile)
    page = (tmp_path / "report.html").read_text()
    assert "&lt;script&gt;" in page
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert 'src="http' not in page
    assert f"{result['student']['mean']:.1f}" in page


def test_the_same_seed_gives_the_same_bits_in_another_process(
    agents: dict[str, Agent], tmp_path: Path, expected: bytes, runs: dict[str, Any]
) -> None:
    given = settings(agents["Discrete"], tmp_path / "run")
    environment = {**os.environ, "PYTHONHASHSEED": "123"}
    # On as many states as in this process.
    few_states = (
        "from kd_agent.evaluation import agreement; "
        f"agreement.EPISODES, agreement.STATES = {agreement.EPISODES}, {agreement.STATES}"
    )
    as_script = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    python, *words = command(given)
    process = [python, "-c", f"{few_states}; {as_script}", *words]
    done = subprocess.run(process, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert (tmp_path / "run" / "student.safetensors").read_bytes() == expected
    again, first = json.loads((tmp_path / "run" / "result.json").read_text()), runs["Discrete"][1]
    assert {k: v for k, v in again.items() if k != "cost"} == {k: v for k, v in first.items() if k != "cost"}


def test_another_seed_gives_another_student(agents: dict[str, Agent], tmp_path: Path, expected: bytes) -> None:
    distill(settings(agents["Discrete"], tmp_path / "run", seed=1))
    assert (tmp_path / "run" / "student.safetensors").read_bytes() != expected


def test_a_linear_student_of_a_chain_of_students_learns_from_a_saved_one(
    runs: dict[str, Any], tmp_path: Path, agents: dict[str, Agent]
) -> None:
    first = str(runs["Discrete"][0] / "student.safetensors")
    result = distill({**settings(agents["Discrete"], tmp_path / "run"), "teacher": first, "hidden": "0"})
    assert result["student"]["parameters"] == 4 * 4 + 4
    assert result["teacher"]["algo"] == "student"


@pytest.mark.parametrize(
    "more",
    [
        {"dropout": 0.2, "l2": 0.01},
        {"loss": ["kl=0.5", "ce"], "temperature": 2.0},
        {"loss": "js", "convention": "rusu"},
        {"loss": "reverse_kl", "activation": "tanh", "exploration": 0.5},
    ],
    ids=" ".join,
)
def test_every_setting_of_the_fit_is_accepted(more: dict[str, Any], agents: dict[str, Agent], tmp_path: Path) -> None:
    result = distill(settings(agents["MultiDiscrete"], tmp_path / "run", **more))
    assert np.isfinite(result["student"]["kl"])


def test_learning_is_real(agent: Agent, tmp_path: Path) -> None:
    """The student agrees with its teacher more than each of 19 untrained ones: p = 0.05 were it chance."""
    distill(
        settings(
            agent, tmp_path / "run", env_steps=4000, final_steps=600, hidden=[16, 16], learning_rate=1e-2, attempts=1
        )
    )
    teacher, states = load_teacher(str(agent.path)), {"obs": np.random.default_rng(7).uniform(-1, 1, (500, 4))}
    states = {"obs": states["obs"].astype(np.float32)}
    rollout = labelled(teacher, states)
    learnt = agreement_on(teacher, load_policy(tmp_path / "run" / "student.safetensors"), rollout)
    others = [agreement_on(teacher, make_student(teacher.head, seed=s).policy(), rollout) for s in range(19)]
    assert learnt.agreement > max(other.agreement for other in others) + 0.1
    assert learnt.kl < 0.5 * min(other.kl for other in others)


def test_a_missing_teacher_is_trained_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    training = {"total_steps": 128, "n_envs": 2, "n_steps": 32, "batch_size": 32, "hidden": [8], "eval_episodes": 2}
    given = {**TINY, "env": PROBES["Discrete"], "training": training}
    first, second = distill(given), distill(given)
    assert first["teacher"]["sha256"] == second["teacher"]["sha256"]
    assert {p.name for p in Path("runs").iterdir()} == {"teachers", "kd_envs-ProbeDiscrete-v0"}
    students = [Path(f"runs/kd_envs-ProbeDiscrete-v0/{n}/student.safetensors").read_bytes() for n in (1, 2)]
    assert students[0] == students[1]


def test_a_teacher_that_sees_more_teaches_a_student_that_sees_less(agents: dict[str, Agent], tmp_path: Path) -> None:
    agent = agents["Discrete"]
    given = settings(agent, tmp_path / "run", env="kd_envs/ProbeDict-v0", teacher_keys=["all"], student_keys=["half"])
    distill(given)
    policy = load_policy(tmp_path / "run" / "student.safetensors")
    assert {key: spec.shape for key, spec in policy.graph.observations.items()} == {"half": (2,)}
    assert 0 <= policy.act({"half": np.zeros(2), "all": np.zeros(4)}) < 4
    for keys, flag in ((["hall"], "student_keys"), (["alle"], "teacher_keys")):
        with pytest.raises(KDError, match="did you mean"):
            distill({**given, "out": str(tmp_path / flag), flag: keys})


def test_a_function_is_a_teacher_too(tmp_path: Path) -> None:
    env = gym.make(PROBES["Box"])
    teacher = load_teacher(lambda x: 2 * x[:, :2], env=(env.observation_space, env.action_space))
    result = distill({**TINY, "env": PROBES["Box"], "out": str(tmp_path / "run"), "final_steps": 400}, teacher=teacher)
    assert result["student"]["mean"] > 40
    assert result["teacher"]["mean"] == pytest.approx(50, abs=1e-3)


def test_where_nobody_says_how_many_rounds_the_budget_does(agents: dict[str, Agent], tmp_path: Path) -> None:
    given = settings(agents["Discrete"], tmp_path / "run", attempts=1, exploration=0.0)
    del given["rounds"]
    result = distill(given)
    assert result["cost"]["gradient_steps"] == given["final_steps"]
    [kept] = (tmp_path / "run" / "checkpoint").glob("round-*.npz")
    assert not np.load(kept)["driver"].any()
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["rounds"] == 1
