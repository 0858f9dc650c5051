"""What is said of another library's network reaches its reader, whichever command loads the teacher."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from samples import TINY
from saved_policies import BY_FILE

from kd_agent import KDError, distill, load_teacher
from kd_agent.evaluation import verdict
from kd_agent.evaluation.verification import verify
from kd_agent.explanations import explain
from kd_agent.settings import EvaluateConfig, ExplainConfig, VerifyConfig
from kd_agent.teachers import _named

SAVED = BY_FILE["cleanrl/ppo.cleanrl_model"]
SAID = {"teacher_activation": "relu"}
BOTH = {"teacher_activation": "relu", "teacher_squash": "clip"}
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose teacher is read with another activation than its library's."""
    out = tmp_path_factory.mktemp("runs") / "run"
    distill({**TINY, "env": "CartPole-v1", "teacher": [str(SAVED.path)], "out": str(out), **SAID})
    return out


def test_a_run_is_taught_and_verified_by_the_network_that_was_said(run: Path) -> None:
    said = load_teacher(str(SAVED.path), env=SAVED.env, **SAID)
    assert said.origin.sha256 in (run / "result.json").read_text()
    assert load_teacher(str(SAVED.path), env=SAVED.env).origin.sha256 != said.origin.sha256
    assert [claim.fault for claim in verify(VerifyConfig(run=str(run), quiet=True)) if claim.fault] == []
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["teacher_activation"] == "relu"


@pytest.mark.parametrize(
    ("module", "call"),
    [
        (verdict, lambda file: verdict.evaluate_file(EvaluateConfig(student=file, teacher=("t.pt",), **BOTH))),
        (_named, lambda file: explain.explain_file(ExplainConfig(student=file, teacher=("t.pt",), **BOTH))),
        (_named, lambda file: distill({**TINY, "env": "CartPole-v1", "teacher": str(SAVED.path), **BOTH})),
    ],
    ids=["evaluate", "explain", "distill"],
)
def test_a_command_says_it_on(module: Any, call: Any, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}

    def load(source: str, **how: Any) -> None:
        told.update(how)
        raise KDError("seen")

    monkeypatch.setattr(module, "load_teacher", load)
    with pytest.raises(KDError, match="seen"):
        call(str(run / "student.safetensors"))
    assert {name: told[name] for name in BOTH} == BOTH


@pytest.mark.parametrize("name", BOTH)
def test_of_a_teacher_that_is_to_be_trained_nothing_is_said(name: str, tmp_path: Path) -> None:
    flag = name.replace("_", "-")
    with pytest.raises(KDError, match=f"--{flag} is of a teacher that is named"):
        distill({**TINY, "env": "CartPole-v1", "out": str(tmp_path / "run"), name: BOTH[name]})
    assert not (tmp_path / "run").exists()
