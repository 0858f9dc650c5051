"""Following a student through a change: it is noticed, it is learnt, and nothing is forgotten."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drifting import ENV, SHIFT, agreement
from samples import HEADS, PROBES, Agent, make_student

from kd_agent import KDError, load_policy, load_teacher
from kd_agent.commands import cli
from kd_agent.continual.follow_drift import follow_drift, kept_states
from kd_agent.settings import FollowDriftConfig, resolve


def config(run: Path, agent: Agent, out: Path, **more: Any) -> FollowDriftConfig:
    given = {
        "student": str(run / "student.safetensors"),
        "teacher": str(agent.path),
        "env": ENV,
        "env_steps": 3000,
        "reference_episodes": 30,
        "lesson_steps": 150,
        "episodes": 4,
        "max_episodes": 4,
        "out": str(out),
        "learning_rate": 5e-3,
        "quiet": True,
    }
    return resolve(FollowDriftConfig, {**given, **more})


def test_a_change_is_noticed_learnt_and_judged_in_both_worlds(
    run: Path, agents: dict[str, Agent], world: str, tmp_path: Path
) -> None:
    result = follow_drift(config(run, agents["Discrete"], tmp_path / "out", new_kwargs={"begin": 0}))
    assert json.loads((tmp_path / "out" / "drift.json").read_text()) == result
    [change, *rest] = result["changes"]
    assert 600 < change["noticed"] <= 1200
    assert 0 <= change["since"] <= 700
    assert "agreement" in change["by"]
    assert change["noticed"] < change["recovered"] <= result["env_steps"]
    assert change["lessons"] >= 4
    assert result["gradient_steps"] == 150 * sum(c["lessons"] for c in [change, *rest])
    old, new = result["verdict"]["old"], result["verdict"]["new"]
    assert (old["env"], new["env"]) == (PROBES["Discrete"], world)
    assert new["env_kwargs"] == {"begin": 0}
    assert all(len(place[who]["returns"]) == 4 for place in (old, new) for who in ("teacher", "before", "after"))
    for place in (old, new):
        for who in ("before", "after"):
            assert place[f"{who}_difference"] == pytest.approx(place[who]["mean"] - place["teacher"]["mean"])
            assert place[f"{who}_lower_tail"]["decision"] == place[f"{who}_decision"] == "undecided"
        assert place["before_error"] == place["after_error"], "they are looked at at the same time"
    timeline = result["timeline"]
    assert [row["env_steps"] for row in timeline] == list(range(50, 3050, 50))
    assert {row["learning"] for row in timeline} == {True, False}
    policy, before = load_policy(tmp_path / "out" / "student.safetensors"), load_policy(run / "student.safetensors")
    teacher = load_teacher(str(agents["Discrete"].path))
    assert agreement(policy, teacher, SHIFT) > agreement(before, teacher, SHIFT) + 0.05
    assert agreement(policy, teacher, 0.0) > agreement(before, teacher, 0.0) - 0.05
    assert list((tmp_path / "out").glob("events.out.tfevents.*"))


def test_the_same_seed_follows_the_same_way_and_where_nothing_changes_nothing_is_learnt(
    run: Path, agents: dict[str, Agent], world: str, tmp_path: Path
) -> None:
    still = [
        follow_drift(config(run, agents["Discrete"], tmp_path / name, env_kwargs={"begin": 10**9}))
        for name in ("a", "b")
    ]
    assert still[0] == still[1]
    assert still[0]["changes"] == []
    assert "new" not in still[0]["verdict"]
    first, second = (load_policy(path / "student.safetensors").graph for path in (run, tmp_path / "a"))
    assert all(
        np.array_equal(x.tensors[role], y.tensors[role])
        for x, y in zip(first.ops, second.ops, strict=True)
        for role in x.tensors
    )


def test_the_old_states_come_from_the_run_folder_or_else_from_the_old_world(run: Path, tmp_path: Path) -> None:
    kept = kept_states(run / "student.safetensors")
    assert sum(len(part["obs"]) for part in kept) == 3000
    (tmp_path / "student.safetensors").write_bytes((run / "student.safetensors").read_bytes())
    assert kept_states(tmp_path / "student.safetensors") == []


def refused(given: FollowDriftConfig) -> str:
    with pytest.raises(KDError) as caught:
        follow_drift(given)
    assert not Path(str(given.out)).exists()
    return str(caught.value)


def test_what_cannot_be_followed_is_refused_before_anything_is_written(
    run: Path, agents: dict[str, Agent], world: str, tmp_path: Path
) -> None:
    agent, out = agents["Discrete"], tmp_path / "out"
    box = agents["Box"]
    assert "acts by categorical" in refused(config(run, agent, out, env=PROBES["Box"], teacher=str(box.path)))
    assert "no.zip" in refused(config(run, agent, out, teacher="no.zip"))
    assert "nothing.safetensors" in refused(config(run, agent, out, student="nothing.safetensors"))
    assert "did you mean" in refused(config(run, agent, out, env="test/DriftingProbe-v1x"))
    gru = make_student(HEADS["categorical"], name="gru", hidden=(4,))
    gru.save(tmp_path / "gru.safetensors", {"env": PROBES["Discrete"]})
    assert "has a memory" in refused(config(run, agent, out, student=str(tmp_path / "gru.safetensors")))


def test_the_command_line_says_what_is_missing_or_wrong(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def answer(*words: str) -> str:
        assert cli.main(["follow-drift", str(run / "student.safetensors"), *words]) == 2
        return capsys.readouterr().err

    assert "teacher is missing (--teacher)" in answer("--env", ENV)
    assert "reference_episodes" in answer("--env", ENV, "--teacher", "x.zip", "--reference-episodes", "3")
    assert "did you mean '--reservoir'" in answer("--env", ENV, "--teacher", "x.zip", "--resevoir", "3")
