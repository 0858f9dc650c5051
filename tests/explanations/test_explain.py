"""Explanations: what is written of a student beside its teacher, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from known_policies import FOUR
from sample_graphs import tree_op
from samples import HEADS, PROBES, Agent, make_graph, make_student

from kd_agent import KDError
from kd_agent.commands import cli
from kd_agent.explanations.disagreements import Disagreement, NearTies
from kd_agent.explanations.explain import explain_file, text
from kd_agent.networks.distributions import head_for
from kd_agent.policies import file as graph_file
from kd_agent.policies.graph import ObservationSpec, PolicyGraph
from kd_agent.settings import ExplainConfig, resolve


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of saved policies; the process's handlers stay as they were."""
    monkeypatch.setattr(cli.signal, "signal", lambda *arguments: None)
    monkeypatch.setattr(cli.warnings, "showwarning", cli.warnings.showwarning)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "inputs"
    folder.mkdir()
    env = {"env": PROBES["Discrete"]}
    make_student(HEADS["categorical"], hidden=(5,)).save(folder / "student.safetensors", env)
    make_student(HEADS["categorical"], hidden=(7,), seed=3).save(folder / "teacher.safetensors", env)
    graph_file.write(make_graph("diag_gaussian"), folder / "box.safetensors")
    return folder


def explained(folder: Path, *flags: str, student: str = "student") -> dict[str, Any]:
    argv = [str(folder / f"{student}.safetensors"), "--teacher", str(folder / "teacher.safetensors"), "--no-progress"]
    assert cli.run("explain", [*argv, "--states", "320", *flags]) == 0
    return dict(json.loads((folder / "explanation.json").read_text()))


def test_the_explanation_has_its_layout_and_is_the_same_again(inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = explained(inputs, "--top", "3")
    out, err = capsys.readouterr()
    assert err.count("kd_agent: ") == 2
    assert "agreement" in out
    assert all(f"\nx[{i}] " in out for i in range(4))
    assert set(result) == {
        "format",
        "env",
        "seed",
        "states",
        "episodes",
        "teacher",
        "student",
        "kl",
        "kl_uniform",
        "agreement",
        "near_ties",
        "head",
        "actions",
        "saliency",
        "disagreements",
        "rules",
    }
    assert (result["format"], result["env"], result["states"], result["episodes"]) == (1, PROBES["Discrete"], 320, 16)
    assert result["actions"] == ["0", "1", "2", "3"]
    for feature in result["saliency"]["features"]:
        for who in ("teacher", "student"):
            assert 0 < feature[who]["kl_ci"][0] <= feature[who]["kl"] <= feature[who]["kl_ci"][1]
    assert len(result["disagreements"]) == 3
    assert set(result["disagreements"][0]) == set(Disagreement.__dataclass_fields__)
    assert set(result["near_ties"]) == {*NearTies.__dataclass_fields__, "gap"}
    assert explained(inputs, "--top", "3", "--quiet") == result
    assert capsys.readouterr() == (out, "")


def test_names_from_anybody_are_escaped_in_the_page(inputs: Path) -> None:
    hostile = ["<script>alert(1)</script>", '"><img src=x>', "$x^2$ & {{ 7*7 }}", "plain"]
    result = explained(inputs, "--names", *hostile)
    assert [f["name"] for f in result["saliency"]["features"]] == hostile
    page = (inputs / "explanation.html").read_text()
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page
    assert "{{ 7*7 }}" in page
    assert "http" not in page


def test_the_rules_of_a_tree_are_part_of_the_explanation(inputs: Path) -> None:
    op = tree_op("obs", "params", leaves=5, features=4, width=4)
    tree = PolicyGraph(FOUR, (op,), HEADS["categorical"].spec, {"env": PROBES["Discrete"]})
    graph_file.write(tree, inputs / "tree.safetensors")
    result = explained(inputs, "--names", "<a>", "b", "c", "d", student="tree")
    assert "<a> <= " in result["rules"]
    page = (inputs / "explanation.html").read_text()
    assert "&lt;a&gt; &lt;= " in page
    assert "<a>" not in page
    assert explained(inputs)["rules"] is None


def test_what_one_of_the_two_does_not_see_has_no_saliency_for_it(inputs: Path) -> None:
    env = {"env": "kd_envs/ProbeDict-v0", "config": {"teacher_keys": ["all"]}}
    half = {"half": ObservationSpec((2,), "float32")}
    make_student(HEADS["categorical"], observations=half).save(inputs / "half.safetensors", env)
    result = explained(inputs, student="half")
    seen = {f["name"]: (bool(f["teacher"]), bool(f["student"])) for f in result["saliency"]["features"]}
    assert seen == {f"half[{i}]": (False, True) for i in range(2)} | {f"all[{i}]": (True, False) for i in range(4)}
    assert result["saliency"]["rank_correlation"] is None
    assert "does not see it" in (inputs / "explanation.html").read_text()


@pytest.mark.parametrize("space", ["Box", "MultiDiscrete", "MultiBinary"])
def test_every_action_space_is_explained(
    space: str, agents: dict[str, Agent], inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = agents[space]
    student = make_student(head_for(agent.model.action_space))
    path = student.save(inputs / "s.safetensors", {"env": agent.env_id, "teacher_sha256": "1" * 64})
    argv = [str(path), "--teacher", str(agent.path), "--states", "320", "--quiet"]
    assert cli.run("explain", argv) == 0
    assert capsys.readouterr().err == (
        f"kd-agent: warning: {path} was distilled from another teacher than {agent.path}\n"
    )
    result = json.loads((inputs / "explanation.json").read_text())
    assert result["actions"] is None
    assert (result["near_ties"] is None) == (space == "Box")
    assert (inputs / "explanation.html").is_file()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["absent.safetensors", "--teacher", "inputs/teacher.safetensors"], "absent.safetensors"),
        (["inputs/student.safetensors", "--teacher", "absent.zip"], "absent.zip"),
        (["inputs/student.safetensors"], "--teacher"),
        (["inputs/student.safetensors", "--teacher", "inputs/box.safetensors"], "inputs/box.safetensors: acts by"),
        (
            ["inputs/student.safetensors", "--teacher", "inputs/teacher.safetensors", "--env", "Acrobot-v1"],
            "shape (4,)",
        ),
        (["inputs/student.safetensors", "--teacher", "inputs/teacher.safetensors", "--names", "a", "b"], "4 numbers"),
        (["inputs/student.safetensors", "--teacher", "inputs/teacher.safetensors", "--states", "0"], "states"),
        (
            ["inputs/student.safetensors", "--teacher", "inputs/teacher.safetensors", "--teacher-keys", "a"],
            "not a Dict",
        ),
        (
            [
                "inputs/student.safetensors",
                "--teacher",
                "inputs/teacher.safetensors",
                "--out",
                "inputs/box.safetensors/x",
            ],
            "inputs/box.safetensors/x: cannot be made",
        ),
    ],
)
def test_a_wrong_input_is_one_line_and_leaves_nothing(
    argv: list[str], words: str, inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(inputs.parent.rglob("*"))
    assert cli.run("explain", argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err.splitlines()[-1]
    assert err.count("error: ") == 1
    assert "Traceback" not in err
    assert sorted(inputs.parent.rglob("*")) == before


def test_policies_whose_distributions_cannot_be_compared_are_refused(agents: dict[str, Agent], inputs: Path) -> None:
    path = make_student(HEADS["squashed_gaussian"]).save(inputs / "s.safetensors", {"env": PROBES["Box"]})
    settings = {"student": str(path), "teacher": str(agents["Box"].path), "quiet": True}
    with pytest.raises(KDError, match="there is no KL between them"):
        explain_file(resolve(ExplainConfig, settings))


def feature(name: str, teacher: float | None, student: float | None) -> dict[str, Any]:
    """A row of `explanation.json`."""
    sides = {
        who: kl if kl is None else {"kl": kl, "kl_ci": (kl, kl), "changed": 0.25}
        for who, kl in {"teacher": teacher, "student": student}.items()
    }
    return {"name": name, "key": "obs", "cell": None, **sides}


def told(*features: dict[str, Any], **more: Any) -> list[str]:
    """The lines of an explanation of these features."""
    saliency = {"features": list(features), "rank_correlation": None}
    figures = {"env": "E-v0", "states": 1600, "episodes": 4, "kl": 0.5, "kl_uniform": 1.0, "agreement": 0.9}
    return text({**figures, "saliency": saliency, "near_ties": None, **more}).splitlines()


def test_the_text_has_the_features_by_their_weight_for_the_teacher_or_for_who_sees_them() -> None:
    lines = told(feature("small", 0.1, 9.0), feature("large", 2.0, None), feature("own", None, 1.0))
    assert [line.split()[0] for line in lines[2:]] == ["large", "own", "small"]
    assert "does not see it" in lines[2]
    assert lines[0].startswith("E-v0: 1,600 states of 4 episodes")
    assert len(lines) == 5


def test_the_text_names_twelve_features_and_counts_the_others() -> None:
    lines = told(*(feature(f"f{i}", i, i) for i in range(20)))
    assert lines[-1] == "... and 8 more"
    assert len(lines) == 2 + 12 + 1


def test_the_text_of_near_ties_says_none_where_there_is_nothing_to_share() -> None:
    ties = {"gap": 0.1, "states": 0.5, "kl": None, "disagreements": None, "differing": 0}
    assert told(feature("x", 1, 1), near_ties=ties)[-1] == (
        "near-ties (decision gap below 0.1): 50.0% of the states, none of the KL, none of 0 disagreements"
    )
