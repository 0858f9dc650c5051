"""What a run remembers of itself, and whether it is the same run that is gone on with."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from prepared_runs import begun
from samples import PROBES, Agent, settings

from kd_agent import KDError, distill
from kd_agent.runs import RunFolder, compare_settings, provenance, remember
from kd_agent.settings import DistillConfig, resolve, to_yaml


def test_a_run_is_not_resumed_under_other_settings(runs: dict[str, Any], agents: dict[str, Agent]) -> None:
    given = settings(agents["Discrete"], runs["Discrete"][0], resume=True)
    for name, value in (("temperature", 3.0), ("seed", 5), ("hidden", [9]), ("env_steps", 999)):
        with pytest.raises(KDError, match=f"was begun with {name} = "):
            distill({**given, name: value})
    with pytest.raises(KDError, match="was begun with teacher"):
        distill({**given, "teacher": str(runs["Discrete"][0] / "student.safetensors")})


def test_a_run_is_not_resumed_with_another_teacher_of_the_same_name(
    runs: dict[str, Any], agents: dict[str, Agent], tmp_path: Path
) -> None:
    teacher = Path(shutil.copy(agents["Discrete"].path, tmp_path / "teacher.zip"))
    given = {**settings(agents["Discrete"], tmp_path / "run"), "teacher": str(teacher)}
    distill(given)
    agents["Discrete"].model.save(teacher)
    before = (tmp_path / "run" / "teacher.json").read_bytes()
    with pytest.raises(KDError, match="begun with another teacher"):
        distill({**given, "resume": True})
    assert (tmp_path / "run" / "teacher.json").read_bytes() == before


def test_settings_and_teacher_are_written_with_all_that_was_decided(tmp_path: Path) -> None:
    with begun(tmp_path / "run", hidden=[5]) as run:
        remember(run)
        kept = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
        assert (kept["hidden"], kept["rounds"], kept["batch_size"]) == ([5], run.plan.rounds, run.plan.batch_size)
        known = json.loads((tmp_path / "run" / "teacher.json").read_text())
        assert known["sha256"] == run.teacher.origin.sha256


def test_how_a_run_is_shown_may_change_and_what_it_computes_may_not(tmp_path: Path) -> None:
    config = resolve(DistillConfig, {"env": PROBES["Discrete"], "out": str(tmp_path)})
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    folder = RunFolder(tmp_path)
    for shown in ({"quiet": True}, {"progress": False}, {"render": True}, {"resume": True}, {"out": "elsewhere"}):
        compare_settings(folder, replace(config, **shown))
    with pytest.raises(KDError, match=r"was begun with margin = 0\.05, not 0\.1"):
        compare_settings(folder, replace(config, margin=0.1))


def test_a_setting_that_the_folder_does_not_know_is_another_setting(tmp_path: Path) -> None:
    """It was begun by a version that had none of that name."""
    config = resolve(DistillConfig, {"env": PROBES["Discrete"]})
    older = {name: value for name, value in yaml.safe_load(to_yaml(config)).items() if name != "margin"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(older))
    with pytest.raises(KDError, match=r"was begun with margin = None, not 0\.05"):
        compare_settings(RunFolder(tmp_path), config)


def test_where_a_student_comes_from_does_not_hang_on_where_it_was_made(tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        with begun(tmp_path / name, quiet=True, progress=name == "one") as run:
            found.append(provenance(run))
    assert found[0] == found[1]
    assert found[0]["env"] == PROBES["Discrete"]
    assert found[0]["teacher_sha256"] == run.teacher.origin.sha256
    assert found[0]["config"]["rounds"] == run.plan.rounds
    assert not {"out", "quiet", "progress", "resume", "render"} & set(found[0]["config"])
