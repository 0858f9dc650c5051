"""No file runs code: whatever a command reads, modules are imported and teachers trusted only where that was typed.

All cases run in one process, in a folder that holds a module `canary` which anybody could import, under an audit hook.
"""

import base64
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from forged_checkpoints import ENDINGS, Payload, checkpoints
from samples import PROBES, ROOT, TINY, flags, make_graph
from zoo_folders import agent, zoo

from kd_agent.policies import file as graph_file

ID = "canary:Canary-v0"
PROBE = PROBES["Discrete"]
CANARY = """
from pathlib import Path
import gymnasium
from kd_envs.probe import ProbeEnv
Path(__file__).with_name("ran").write_text("")
gymnasium.register("Canary-v0", ProbeEnv, max_episode_steps=5)
class Wrapper(gymnasium.Wrapper):
    pass
"""
BLIND = {"env_id": "kd_envs/CartPoleBlind-v1", "env_kwargs": {"base": "canary:CartPole-v1"}}
PLAIN: dict[str, Any] = {"env_id": PROBE, "env_kwargs": {}, "wrappers": [], "frame_stack": 1}
STUDENTS: dict[str, dict[str, Any]] = {
    "names": {"env": ID},
    "recipe": {"env": "Canary-v0", "recipe": {**PLAIN, "env_id": ID}},
    "module": {"env": "Canary-v0", "recipe": {**PLAIN, "env_id": "Canary-v0", "module": "canary"}},
    "wrapper": {"env": PROBE, "recipe": {**PLAIN, "wrappers": [["canary.Wrapper", {}]]}},
    "argument": {"env": PROBE, "recipe": {**PLAIN, **BLIND}},
    "class": {"env": PROBE, "recipe": {**PLAIN, "env_kwargs": {"a": [{"kind": "canary.Wrapper"}]}}},
    "trusting": {
        "env": PROBE,
        "trust_teacher": True,
        "config": {"env": ID, "trust_teacher": True, "combine": "canary"},
    },
    "strange": {"env": PROBE, "config": [1], "recipe": 5},
}
"""What forged students say of where they come from."""
TYPE_IT = "--env canary:Canary-v0"
READERS = ("evaluate", "explain", "follow-drift")
"""Commands that play a student where its file says."""
DRIVER = """
import contextlib, io, json, sys
seen = []
def hook(event, args):
    if event == "import" and str(args[0]).startswith("canary"):
        seen.append([event, str(args[0])])
    if event == "exec" and "canary" in str(getattr(args[0], "co_filename", "")):
        seen.append([event, str(args[0])])
    if event == "pickle.find_class":
        seen.append([event, str(args)])
sys.addaudithook(hook)
from kd_agent.commands import cli
results = {}
for name, argv in json.load(sys.stdin).items():
    seen.clear()
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = cli.run(argv[0], argv[1:])
    results[name] = {"code": code, "said": said.getvalue(), "seen": list(seen)}
json.dump(results, sys.stdout)
"""


def untold(path: Path, new: Path) -> Path:
    """An agent's zip whose policy nobody can know, with the canary in a place that is unpickled where it is trusted."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(new, "w") as out:
        for info in old.infolist():
            raw = old.read(info)
            if info.filename == "data":
                data = json.loads(raw)
                record = data["policy_class"]
                data["policy_class"] = {key: record[key] for key in (":type:", ":serialized:")}
                text = base64.b64encode(pickle.dumps(Payload())).decode()
                data["lr_schedule_of_mine"] = {":type:": "<class 'function'>", ":serialized:": text}
                raw = json.dumps(data).encode()
            out.writestr(info.filename, raw)
    return new


@pytest.fixture(scope="module")
def den(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder full of files that would have code run."""
    folder = tmp_path_factory.mktemp("den")
    (folder / "canary.py").write_text(CANARY)
    for name, provenance in STUDENTS.items():
        graph_file.write(make_graph(provenance=provenance), folder / f"{name}.safetensors")
    untold(agent(folder / "plain.zip"), folder / "untold.zip")
    np.savez(folder / "pickled.npz", observations=np.array([Payload()] * 20, object), actions=np.zeros(20, int))
    documents: dict[str, dict[str, Any]] = {
        "trust": {"env": "CartPole-v1", "teacher": "untold.zip", "trust_teacher": True},
        "yes": {"env": "CartPole-v1", "teacher": "untold.zip", "trust_teacher": "yes"},
        "module": {"env": ID},
        "known": {"env": "canary:CartPole-v1", "teacher": "untold.zip"},
        "teacher_env": {"env": "CartPole-v1", "teacher_env": ID},
        "tasks": {"tasks": ["CartPole-v1", ID]},
        "argument": {"env": BLIND["env_id"], "env_kwargs": BLIND["env_kwargs"]},
    }
    for name, document in documents.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(document))
        # What a stranger hands over is a whole run folder.
        (folder / f"run-{name}").mkdir()
        (folder / f"run-{name}" / "config.yaml").write_text(yaml.safe_dump(document))
        (folder / f"run-{name}" / "teacher.json").write_text('{"sha256": "0"}')
    agent(zoo(folder / "zoo" / "named", {}, {"env": ID}) / "CartPole-v1.zip")
    agent(zoo(folder / "zoo" / "told", {}, {"env_kwargs": {"a": "canary:Wrapper"}}) / "CartPole-v1.zip")
    agent(folder / "zoo" / "by_name" / f"{ID}.zip")
    agent(folder / "zoo" / "--env=canary:x.zip")
    for name, raw in checkpoints().items():
        (folder / name).write_bytes(raw)
    (folder / "trusting").mkdir()
    untold(folder / "plain.zip", folder / "trusting" / "CartPole-v1.zip")
    return folder


def cases() -> dict[str, tuple[list[str], str]]:
    """A command line each, and what its one line says; "" where it may do its work."""
    found: dict[str, tuple[list[str], str]] = {}
    tiny = flags({**TINY, "teacher": "trusting.safetensors"})
    answers = {
        "names": TYPE_IT,
        "recipe": TYPE_IT,
        "module": TYPE_IT,
        "wrapper": "wrapper 'canary.Wrapper' is not known",
        "argument": "--env-kwargs",
        "class": "--env-kwargs",
        "strange": "description is damaged",
    }
    for student, answer in answers.items():
        for reader in READERS:
            argv = [reader, f"{student}.safetensors", "--quiet", *(["--episodes", "2"] if reader == "evaluate" else [])]
            if reader != "evaluate":
                argv += ["--teacher", "trusting.safetensors", "--out", "o"]
            if reader == "follow-drift":
                argv += ["--env", PROBE]
            found[f"{reader} {student}"] = (argv, answer)
    for student in STUDENTS:
        path = f"{student}.safetensors"
        found[f"export {student}"] = (["export", path, "--out", f"{student}.mjs", "--quiet"], "")
        found[f"sb3 {student}"] = (["export", path, "--out", f"{student}.zip", "--quiet"], "")
        found[f"teacher {student}"] = (
            ["distill", "--env", ID[7:], "--teacher", path, "--out", "o"],
            "unknown environment",
        )
        init = ["kickstart", "--env", "CartPole-v1", "--init", path, "--teacher", path, "--out", "o"]
        found[f"kickstart {student}"] = (init, "acts by")
    # A zip that only says where it plays is exported all the same, on random observations.
    for source in ("zoo/named", "zoo/told", "plain.zip"):
        found[f"export {source}"] = (["export", source, "--out", "zip.mjs", "--quiet"], "")
    found["export untold"] = (["export", "untold.zip", "--out", "u.c"], "so that there is no program of it to write")
    found["export of a typed id"] = (["export", "plain.zip", "--out", "u.c", "--env", ID[7:]], "unknown environment")
    found["evaluate trusting"] = (["evaluate", "trusting.safetensors", "--episodes", "2", "--quiet"], "")
    explained = ["explain", "trusting.safetensors", "--teacher", "names.safetensors", "names.safetensors"]
    found["explain trusting"] = ([*explained, "--out", "o", "--quiet"], "unknown combine 'canary'")
    files = {
        "trust": "--trust-teacher",
        "yes": "--trust-teacher",
        "module": TYPE_IT,
        "teacher_env": "--teacher-env canary:Canary-v0",
        "argument": "--env-kwargs",
    }
    for file, answer in files.items():
        for command in ("distill", "compress", "kickstart", "search-settings", "train-teacher"):
            out = [] if command == "train-teacher" else ["--out", "o"]
            found[f"{command} {file}.yaml"] = ([command, "--config", f"{file}.yaml", *out], answer)
        found[f"resume {file}"] = (["distill", "--resume", "--out", f"run-{file}"], answer)
    found["distill known.yaml"] = (["distill", "--config", "known.yaml", "--out", "o"], "--trust-teacher")
    found["resume known"] = (["distill", "--resume", "--out", "run-known"], "--env canary:CartPole-v1")
    recorded = ["distill", "--teacher", "pickled.npz", "--out", "o"]
    found["a pickle in recorded data"] = (recorded, "pickled.npz: not usable as recorded data")
    found["tasks"] = (["distill-tasks", "--config", "tasks.yaml", "--out", "o"], f"--tasks {ID}")
    found["resume tasks"] = (["distill-tasks", "--resume", "--out", "run-tasks"], f"--tasks {ID}")
    for suffix in ENDINGS:
        taught = ["distill", "--env", "CartPole-v1", "--teacher", f"bare{suffix}", "--out", "o"]
        found[f"a bare pickle{suffix}"] = (taught, f"bare{suffix}")
    for name in ("brax.pkl", "code.pt"):
        exported = ["export", name, "--env", "CartPole-v1", "--out", "c.c"]
        found[f"export {name}"] = (exported, name)
    for name in ("skrl/agent_dqn.pt", "rl_games/cartpole.pth", "imitation/bc_saved.pt"):
        source = f"forged_{Path(name).name}"
        found[f"export {source}"] = (["export", source, "--env", "CartPole-v1", "--out", "f.mjs", "--quiet"], "")
    argument = ["distill", "--env", "CartPole-v1", "--teacher", "zoo/told", "--out", "o"]
    found["a zoo folder's argument"] = (argument, "--env-kwargs")
    found["a zoo folder's id"] = (["distill", "--env", PROBE, *tiny, "--config", "trust.yaml", "--out", "o"], "--trust")
    return found


CASES = cases()


def ran(den: Path, argv: dict[str, list[str]], path: tuple[Path, ...] | None = None) -> dict[str, Any]:
    """What the command lines did, one after the other in one process in the folder.

    Args:
        den: The folder.
        argv: Command lines by name.
        path: Where modules are found beside the package's own; default: in the folder.
    """
    homes = (ROOT, ROOT / "envs", *((den,) if path is None else path))
    done = subprocess.run(
        [sys.executable, "-P", "-c", DRIVER],
        check=False,
        input=json.dumps(argv),
        capture_output=True,
        text=True,
        cwd=den,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, homes)), "CUDA_VISIBLE_DEVICES": ""},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def results(den: Path) -> dict[str, Any]:
    """What all cases did."""
    return ran(den, {name: argv for name, (argv, _) in CASES.items()})


@pytest.mark.parametrize("case", CASES)
def test_what_a_file_says_is_not_run_and_the_line_names_the_flag(case: str, results: dict[str, Any]) -> None:
    result, answer = results[case], CASES[case][1]
    assert result["seen"] == []
    assert answer in result["said"]
    assert "Traceback" not in result["said"]
    if answer:
        assert result["code"] == 2, result["said"]
        assert len([line for line in result["said"].splitlines() if "error:" in line]) == 1


def test_no_case_left_the_mark_of_the_canary(den: Path, results: dict[str, Any]) -> None:
    assert results
    assert not (den / "ran").exists()


def test_what_is_typed_runs(den: Path) -> None:
    """The same files, with the flags that the lines name: else the cases above would show nothing."""
    short = flags({**TINY, "env_steps": 64, "rounds": 1, "attempts": 1, "teacher": "names.safetensors"})
    trusted = flags({**TINY, "env_steps": 64, "rounds": 1, "attempts": 1})
    typed = {
        "yaml": ["distill", "--config", "module.yaml", "--env", ID, *short, "--out", "typed"],
        "trust": ["distill", "--config", "trust.yaml", "--trust-teacher", *trusted, "--out", "trusted"],
    }
    for name, argv in typed.items():
        (den / "ran").unlink(missing_ok=True)
        # Each in a process of its own: the first that imports a module does so for all.
        result = ran(den, {name: argv})[name]
        assert result["code"] == 0, result["said"]
        assert (den / "ran").exists(), name
    afterwards = {
        "module": ["distill", "--resume", "--out", "typed"],
        "trust": ["distill", "--resume", "--out", "trusted"],
        "typed": ["distill", "--resume", "--out", "typed", "--env", ID],
        "student": ["evaluate", "module.safetensors", "--env", ID, "--episodes", "2", "--quiet"],
    }
    done = ran(den, afterwards)
    assert f"imported where it is typed, as when the run was begun: --env {ID}" in done["module"]["said"]
    assert "counts where it is typed, as when the run was begun: --trust-teacher" in done["trust"]["said"]
    assert (done["typed"]["code"], done["student"]["code"]) == (0, 0)


def test_a_sweep_types_for_its_teachers_no_more_than_what_is_registered(den: Path) -> None:
    (den / "ran").unlink(missing_ok=True)
    # Whoever sweeps a folder stands in it: its files take no library's place in the processes that distil.
    (den / "pydantic.py").write_text((den / "canary.py").read_text())
    try:
        swept = ran(den, {"sweep": ["zoo-sweep", "--teachers", "zoo", "--out", "swept", "--jobs", "1"]}, path=())[
            "sweep"
        ]
    finally:
        (den / "pydantic.py").unlink()
    rows = {row["name"]: row["error"] for row in json.loads((den / "swept" / "sweep.json").read_text())}
    assert TYPE_IT in rows["named"]
    assert "unknown environment 'Canary-v0'" in rows["by_name"]
    assert rows["told"]
    assert "environment 'x' is not registered" in rows["--env=canary:x"]
    assert (swept["code"], swept["seen"]) == (0, [])
    assert not (den / "ran").exists()
