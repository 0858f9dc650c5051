"""Verification: a run folder that nobody touched holds, and whatever is edited in one is named."""

import json
import re
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from samples import PROBES, ROOT, TINY, Agent, settings, train_agent

from kd_agent import KDError, distill, distill_tasks
from kd_agent.commands import cli
from kd_agent.evaluation import compare, iqm, iqm_interval, scores, verdict_figures, verification
from kd_agent.evaluation._written import Written
from kd_agent.evaluation.statistics import failures, worst_episodes
from kd_agent.evaluation.verification import verify
from kd_agent.policies import file as graph_file
from kd_agent.settings import VerifyConfig, resolve

Edit = Callable[[Path], None]


def claims(folder: Path, **more: Any) -> tuple[list[str], str]:
    """Texts of the claims that hold, and the first that does not, with its fault."""
    held = []
    for claim in verify(resolve(VerifyConfig, {"run": str(folder), "quiet": True, **more})):
        if not claim.holds:
            return held, f"{claim.text}: {claim.fault}"
        held.append(claim.text)
    return held, ""


@pytest.fixture
def run(runs: dict[str, tuple[Path, dict[str, Any]]], tmp_path: Path) -> Path:
    """A copy of a finished run's folder."""
    return Path(shutil.copytree(runs["Discrete"][0], tmp_path / "run"))


def read(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def edited(change: Callable[[dict[str, Any]], Any]) -> Edit:
    """An edit of `result.json`."""

    def edit(folder: Path) -> None:
        result = read(folder)
        change(result)
        (folder / "result.json").write_text(json.dumps(result))

    return edit


def one_return_more(who: str) -> Callable[[dict[str, Any]], Any]:
    def change(result: dict[str, Any]) -> None:
        result[who]["returns"][2] += 3

    return change


def computed_again(who: str) -> Callable[[dict[str, Any]], Any]:
    """A return that is changed along with all figures that follow from it, the verdict included."""

    def change(result: dict[str, Any]) -> None:
        one_return_more(who)(result)
        result[who] |= scores(result[who]["returns"])
        teacher, student, random = (result[name]["returns"] for name in ("teacher", "student", "random"))
        result["student"] |= {"failures": failures(student, teacher), "worst": worst_episodes(student, 20_000)}
        verdict = compare(teacher, student, random, margin=0.05, error=result["verdict"]["error"])
        result["verdict"] |= verdict_figures(verdict)

    return change


def another_margin(folder: Path) -> None:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, "margin": 0.5}))


def another_margin_everywhere(folder: Path) -> None:
    """One that the verdict was computed with again."""
    another_margin(folder)
    result = read(folder)
    returns = (result[name]["returns"] for name in ("teacher", "student", "random"))
    result["verdict"] |= verdict_figures(compare(*returns, margin=0.5, error=result["verdict"]["error"]))
    (folder / "result.json").write_text(json.dumps(result))


def another_student(folder: Path) -> None:
    graph = graph_file.read(folder / "student.safetensors")
    for op in graph.ops:
        if "weight" in op.tensors:
            op.tensors["weight"][...] *= -1
    graph_file.write(graph, folder / "student.safetensors")


def another_student_with_its_hash(folder: Path) -> None:
    another_student(folder)
    raw = (folder / "student.safetensors").read_bytes()
    edited(lambda result: result["student"].update(sha256=sha256(raw).hexdigest(), bytes=len(raw)))(folder)


def more_parameters(result: dict[str, Any]) -> None:
    result["student"]["parameters"] *= 2
    result["verdict"]["compression"] /= 2


def teachers_file(folder: Path) -> None:
    known = json.loads((folder / "teacher.json").read_text())
    (folder / "teacher.json").write_text(json.dumps({**known, "sha256": "0" * 64}))


EDITS: dict[str, tuple[Edit, str]] = {
    "a newer format": (edited(lambda r: r.update(format=3)), "result.json is of format 3: only 1 and 2"),
    "the older format": (edited(lambda r: r.update(format=1)), "the verdict's margin"),
    "a teacher's return": (edited(one_return_more("teacher")), "teacher: mean, IQM.*: mean is written as"),
    "a student's return": (edited(one_return_more("student")), "student: mean, IQM.*: mean is written as"),
    "a random return": (edited(one_return_more("random")), "random: mean, IQM.*: mean is written as"),
    "the student's IQM": (
        edited(lambda r: r["student"].update(iqm=1e3)),
        "student: mean, IQM.*: iqm is written as 1000",
    ),
    "the teacher's interval": (edited(lambda r: r["teacher"].update(mean_ci=[0, 1])), "teacher: mean, IQM.*: mean_ci"),
    "the share of failures": (edited(lambda r: r["student"].update(failures=-1)), "student: mean, .*: failures"),
    "a figure that is gone": (edited(lambda r: r["random"].pop("lower_tail")), "random: .*: lower_tail is not written"),
    "the decision": (
        edited(lambda r: r["verdict"].update(decision="non-inferior")),
        "the verdict, non-inferior, .*: decision",
    ),
    "the flag": (edited(lambda r: r["verdict"].update(non_inferior=True)), "the verdict, .*: non_inferior"),
    "a part's decision": (edited(lambda r: r["verdict"]["mean"].update(decision="best")), "the verdict, .*: mean"),
    "the difference": (edited(lambda r: r["verdict"].update(difference=0.0)), "the verdict, .*: difference"),
    "its interval": (edited(lambda r: r["verdict"].update(difference_ci=[0, 1])), "the verdict, .*: difference_ci"),
    "the compression": (edited(lambda r: r["verdict"].update(compression=1e3)), "the verdict, .*: compression"),
    "the margin": (edited(lambda r: r["verdict"].update(margin=99.0)), "the verdict's margin is config.yaml's, 0.05 "),
    "the margin in config.yaml": (another_margin, "the verdict's margin is config.yaml's, 0.5 "),
    "the margin everywhere": (another_margin_everywhere, "config.yaml is as in student.safetensors: margin"),
    "the error": (edited(lambda r: r["verdict"].update(error=0.5)), "the verdict fell at a look .*: error"),
    "the number of looks": (edited(lambda r: r["verdict"].update(looks=2)), "the verdict fell at a look .*: looks"),
    "another student": (another_student, "student.safetensors has the sha256 .*: sha256 is written as"),
    "another student with its hash": (another_student_with_its_hash, "student: played again, 6 of 6 .* seed 2000"),
    "the student's size": (edited(more_parameters), r"the student has \d+ parameters: parameters"),
    "the way to play": (edited(lambda r: r.update(play="sampled")), "it is played as its file says: sampled"),
    "the environment": (edited(lambda r: r.update(env=PROBES["Box"])), "the environment is the student's, .*: env"),
    "the teacher's hash": (edited(lambda r: r["teacher"].update(sha256="0")), "the teacher, .*zip, has the sha256"),
    "the teacher's worth": (edited(lambda r: r["teacher"].update(weak=True)), "teacher: it is worth .*: weak"),
    "its other play": (edited(lambda r: r["teacher"].update(mean_otherwise=9e9)), "teacher: it is worth .*: mean_o"),
    "the hash in teacher.json": (teachers_file, "the teacher, .*zip, has the sha256 .*: sha256 is written as 000"),
    "a teacher's return and all that follows": (edited(computed_again("teacher")), "teacher: played again, .* 1 have"),
    "a student's return and all that follows": (edited(computed_again("student")), "student: played again, .* 20002 "),
    "a random return and all that follows": (edited(computed_again("random")), "random: played again, 6 of 6 "),
    "the KL": (edited(lambda r: r["student"].update(kl=1e-9)), "student: KL and agreement, .*: kl is written as 1e-09"),
    "the agreement": (edited(lambda r: r["student"].update(agreement=1.0)), "student: KL and agreement, .*: agreement"),
    "a cost below nought": (edited(lambda r: r["cost"].update(env_steps=-1)), "costs: .*: env_steps is -1"),
    "half a step": (edited(lambda r: r["cost"].update(exam_steps=0.5)), "costs: .*: exam_steps is 0.5"),
    "a time that is none": (edited(lambda r: r["cost"].update(distill_s="1")), "costs: .*: distill_s is 1"),
}


@pytest.mark.parametrize("case", EDITS)
def test_what_was_edited_is_named(case: str, run: Path) -> None:
    edit, expected = EDITS[case]
    edit(run)
    _, fault = claims(run)
    assert fault
    assert re.match(expected, fault), fault


def test_a_run_that_nobody_touched_holds(runs: dict[str, tuple[Path, dict[str, Any]]], space_name: str) -> None:
    folder, _ = runs[space_name]
    held, fault = claims(folder)
    assert (len(held), fault) == (19, "")
    assert "student: played again, 6 of 6 episodes have the same return" in held


def test_the_command_has_a_line_for_each_claim_and_stops_at_the_first_that_fails(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run("verify", [str(run), "--quiet"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert (len(lines), err) == (19, "")
    assert all(line.startswith("holds: ") for line in lines)
    EDITS["the decision"][0](run)
    assert cli.run("verify", [str(run), "--quiet"]) == 1
    *held, failed = capsys.readouterr().out.splitlines()
    assert held == lines[: len(held)]
    assert failed.startswith("DOES NOT HOLD: the verdict, non-inferior, follows from the returns: decision is written")


def test_the_script_is_the_command() -> None:
    assert '"verify"' in (ROOT / "scripts" / "verify_run.py").read_text()


def without(name: str) -> Edit:
    return lambda folder: (folder / name).unlink()


def written(name: str, text: str) -> Edit:
    return lambda folder: (folder / name).write_text(text)  # type: ignore[func-returns-value]


UNREADABLE: dict[str, tuple[Edit, str]] = {
    "no folder": (shutil.rmtree, "result.json: there is no such file"),
    "no result": (without("result.json"), "result.json: there is no such file"),
    "no settings": (without("config.yaml"), "config.yaml"),
    "no student": (without("student.safetensors"), "student.safetensors: there is no such file"),
    "no teacher.json": (without("teacher.json"), "teacher.json: there is no such file"),
    "a damaged result": (written("result.json", "{"), "result.json: damaged"),
    "a result of another kind": (written("result.json", '{"cost": {}}'), "result.json: damaged"),
    "a result without returns": (edited(lambda r: r["student"].pop("returns")), "result.json: damaged"),
    "no costs": (edited(lambda r: r.pop("cost")), "result.json: damaged"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_cannot_be_read_is_one_line(case: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit, expected = UNREADABLE[case]
    edit(run)
    assert cli.run("verify", [str(run), "--quiet"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert expected in line


def test_a_teacher_that_has_moved_is_named(run: Path, agents: dict[str, Agent], tmp_path: Path) -> None:
    here = Path(shutil.copy(agents["Discrete"].path, tmp_path / "elsewhere.zip"))
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "teacher": ["gone.zip"]}))
    graph = graph_file.read(run / "student.safetensors")
    graph.provenance["config"]["teacher"] = ["gone.zip"]
    graph_file.write(graph, run / "student.safetensors")
    raw = (run / "student.safetensors").read_bytes()
    edited(lambda result: result["student"].update(sha256=sha256(raw).hexdigest(), bytes=len(raw)))(run)
    with pytest.raises(KDError, match=r"gone.zip: the run's teacher is not there; --teacher says"):
        claims(run)
    assert claims(run, teacher=[str(here)])[1] == ""
    other = train_agent(tmp_path / "other.zip", PROBES["Discrete"])
    assert "other.zip, has the sha256" in claims(run, teacher=[str(other.path)])[1]


def test_a_run_of_other_bits_holds_within_a_tolerance_that_is_named(run: Path) -> None:
    edited(computed_again("student"))(run)
    scale = abs(read(run)["teacher"]["mean"] - read(run)["random"]["mean"])
    away = 3 / 6 / scale
    held, fault = claims(run, tolerance=1.01 * away)
    assert fault == ""
    [line] = [text for text in held if text.startswith("student: played again")]
    assert line.endswith("of |teacher - random| (5 have the same return)")
    assert "student: KL and agreement are within the intervals of those measured again" in held
    assert "away" in claims(run, tolerance=0.99 * away)[1]
    edited(lambda result: result["student"].update(kl=1e-9))(run)
    assert "kl is written as 1e-09, found in [" in claims(run, tolerance=1.01 * away)[1]


@pytest.mark.parametrize(("episodes", "enough"), [(26, 20), (22, 22)])
def test_all_play_again_as_they_were_interrupted_and_fewer_episodes_end_with_a_look(
    episodes: int, enough: int, agents: dict[str, Agent], tmp_path: Path
) -> None:
    """Continuous returns hang on how many episodes are played at once: 20 and 6, or of the teacher 20 and 2."""
    distill(settings(agents["Box"], tmp_path / "run", episodes=episodes, max_episodes=episodes, final_steps=1500))
    assert read(tmp_path / "run")["verdict"]["episodes"] == episodes
    assert claims(tmp_path / "run")[1] == ""
    held, fault = claims(tmp_path / "run", episodes=3)
    assert fault == ""
    assert f"student: played again, {enough} of {episodes} episodes have the same return" in held
    assert not any("KL" in text for text in held)


def test_the_looks_at_which_playing_was_interrupted(run: Path) -> None:
    result, config = read(run), yaml.safe_load((run / "config.yaml").read_text())
    result["student"]["returns"] = [0.0] * 85
    written = Written(result, {**config, "episodes": 85, "max_episodes": 200})
    assert written.stops(None) == [20, 30, 40, 50, 60, 70, 85]
    assert written.stops(1) == [20]
    assert written.stops(20) == [20]
    assert written.stops(21) == [20, 30]
    assert written.stops(1_000) == written.stops(None)
    assert written.first_episodes == 20


def test_no_file_of_the_folder_trusts_a_teacher(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "trust_teacher": True, "wrapper": ["os:system"]}))
    trusted = []
    load = verification.load_named

    def spied(config: Any, spaces: Any) -> Any:
        trusted.append((config.trust_teacher, config.wrapper))
        return load(config, spaces)

    monkeypatch.setattr(verification, "load_named", spied)
    assert claims(run)[1] == ""
    assert claims(run, trust_teacher=True)[1] == ""
    assert trusted == [(False, ()), (True, ())]


def test_several_teachers_and_their_weights(agents: dict[str, Agent], tmp_path: Path) -> None:
    other = train_agent(tmp_path / "other.zip", PROBES["Discrete"])
    teachers = [str(agents["Discrete"].path), str(other.path)]
    distill({**settings(agents["Discrete"], tmp_path / "run"), "teacher": teachers})
    assert claims(tmp_path / "run")[1] == ""
    assert [one["weight"] for one in read(tmp_path / "run")["teachers"]] == [0.5, 0.5]
    # Who is not heard has no parameters that act.
    edited(lambda result: result["teachers"][0].update(weight=0.0))(tmp_path / "run")
    assert "has the sha256 and the parameters: parameters" in claims(tmp_path / "run")[1]


def test_a_sampled_student_is_played_by_samples_again(agents: dict[str, Agent], tmp_path: Path) -> None:
    distill(settings(agents["Discrete"], tmp_path / "run", sampled=True))
    assert read(tmp_path / "run")["play"] == "sampled"
    assert claims(tmp_path / "run")[1] == ""


def test_the_students_of_several_seeds_and_the_verdict_over_them(agents: dict[str, Agent], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    distill(settings(agents["Discrete"], folder, seeds=2, seed=4, attempts=1, exploration=0.3))
    held, fault = claims(folder)
    assert fault == ""
    for name in ("seed-4", "seed-5"):
        assert f"{name}: student: played again, 6 of 6 episodes have the same return" in held
    assert len([text for text in held if "teacher: played again" in text]) == 1
    kept = read(folder)["kept_seed"]
    assert f"the student that is written is that of seed {kept}" in held
    unchanged = (folder / "result.json").read_text()
    for change, expected in SEEDS_EDITS.values():
        (folder / "result.json").write_text(unchanged)
        edited(change)(folder)
        assert re.match(expected, claims(folder)[1]), claims(folder)[1]
    (folder / "result.json").write_text(unchanged)
    other = folder / f"seed-{9 - kept}" / "student.safetensors"
    shutil.copy(other, folder / "student.safetensors")
    assert claims(folder)[1].startswith("student.safetensors has the sha256 and the bytes: sha256")


SEEDS_EDITS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a return": (lambda r: one_return_more("student")(r["seeds"][1]), "seed-5: student: mean"),
    "a decision": (lambda r: r["seeds"][0]["verdict"].update(decision="best"), "seed-4: the verdict, best, "),
    "the decision": (lambda r: r["verdict"].update(decision="best"), "the verdict over 2 seeds, best, "),
    "a seed less": (lambda r: r["seeds"].remove(r["seeds"][0]), r"the seeds are config.yaml's, \[4, 5\]: seeds"),
    "another student": (lambda r: r["student"].update(parameters=3), "the student that is written is that of seed"),
}


def test_several_tasks_are_held_to_what_is_said_of_each(agents: dict[str, Agent], tmp_path: Path) -> None:
    names = ("env_steps", "rounds", "round_steps", "final_steps", "episodes", "max_episodes", "quiet")
    given = {name: TINY[name] for name in names}
    tasks = [PROBES["Discrete"], PROBES["Box"]]
    teachers = [str(agents["Discrete"].path), str(agents["Box"].path)]
    folder = tmp_path / "run"
    distill_tasks({**given, "attempts": 1, "tasks": tasks, "teacher": teachers, "hidden": [5, 5], "out": str(folder)})
    held, fault = claims(folder)
    assert fault == ""
    for task in tasks:
        assert f"{task}: student: played again, 6 of 6 episodes have the same return" in held
    edited(lambda result: one_return_more("student")(result["tasks"][tasks[1]]))(folder)
    assert claims(folder)[1].startswith(f"{tasks[1]}: student: mean")


def as_first_format(result: dict[str, Any]) -> None:
    """What the first edition would have written: IQMs, and a verdict on their difference."""
    teacher, student = np.array(result["teacher"]["returns"]), np.array(result["student"]["returns"])
    random = float(iqm(result["random"]["returns"]))
    for who in ("teacher", "student"):
        returns = result[who]["returns"]
        result[who] |= {"iqm": float(iqm(returns)), "iqm_ci": list(iqm_interval(returns))}
    drawn = np.random.default_rng(1).integers(6, size=(20_000, 6))
    low, high = np.quantile(iqm(student[drawn]) - iqm(teacher[drawn]), [0.025, 0.975])
    margin = 0.05 * abs(float(iqm(teacher)) - random)
    decision = "non-inferior" if low >= -margin else "inferior" if high < -margin else "undecided"
    interval = verification.WrittenFirst(
        {**result, "random": {"iqm": random}}, {"margin": 0.05, "episodes": 6, "max_episodes": 6}
    )._verdict_again()["difference_ci"]
    assert interval == pytest.approx([low, high], abs=0.1 * (high - low))
    result["random"] = {"iqm": random}
    result["verdict"] = {
        "decision": decision,
        "non_inferior": decision == "non-inferior",
        "episodes": 6,
        "margin": margin,
        "difference": float(iqm(student) - iqm(teacher)),
        "difference_ci": interval,
        "level": 0.95,
        "compression": result["verdict"]["compression"],
    }
    result["format"] = 1


FIRST_EDITS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a return": (one_return_more("student"), "student: the IQM follows .*: iqm"),
    "the decision": (lambda r: r["verdict"].update(decision="best"), "the verdict, best, follows .*: decision"),
    "the random policy": (lambda r: r["random"].update(iqm=0.0), "the verdict's margin"),
    "the interval": (lambda r: r["verdict"].update(difference_ci=[0.0, 1.0]), "the verdict, .*: difference_ci"),
}


def test_the_first_format_is_verified_by_its_own_rule(run: Path) -> None:
    edited(as_first_format)(run)
    held, fault = claims(run)
    assert fault == ""
    assert "random: played again, it has the IQM" in held
    assert "student: played again, 6 of 6 episodes have the same return" in held
    unchanged = (run / "result.json").read_text()
    for change, expected in FIRST_EDITS.values():
        (run / "result.json").write_text(unchanged)
        edited(change)(run)
        assert re.match(expected, claims(run)[1])
