"""`--sampled`: a game in which greedy play loses and drawn moves do not, from the teacher to the verdict and back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rock_paper_scissors import ID, ROUNDS, nearly_uniform
from samples import TINY, make_graph

from kd_agent import KDError, distill, evaluate, load_policy, load_teacher
from kd_agent.continual.follow_drift import check_pair
from kd_agent.distillation.online import Online
from kd_agent.distillation.outcome import Result
from kd_agent.environments.vector import spaces_of
from kd_agent.kickstarting.kickstart import kickstart, load_init
from kd_agent.settings import DistillConfig, FollowDriftConfig, KickstartConfig


def distilled(out: Path, **more: Any) -> Result:
    teacher = load_teacher(nearly_uniform, env=spaces_of(ID))
    given = {**TINY, "env": ID, "out": str(out), "episodes": 40, "max_episodes": 40, "attempts": 1, "final_steps": 300}
    return distill({**given, **more}, teacher)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    folder = tmp_path_factory.mktemp("games")
    return {"sampled": distilled(folder / "sampled", sampled=True), "greedy": distilled(folder / "greedy")}


def test_who_draws_is_not_read_and_who_plays_greedily_is(results: dict[str, Result]) -> None:
    for who in ("teacher", "student"):
        assert abs(results["sampled"][who]["iqm"]) < 3
        assert results["greedy"][who]["iqm"] < 2 - ROUNDS
    assert [results[play]["play"] for play in results] == ["sampled", "greedy"]


def test_a_student_is_played_as_it_was_judged(results: dict[str, Result]) -> None:
    for result in results.values():
        for player in (result.policy, load_teacher(str(result.student_file))):
            returns = result["student"]["returns"]
            again: list[float] = []
            # Look by look: whoever draws begins anew at each.
            for look in (20, 30, 40)[: result["verdict"]["looks"]]:
                again += evaluate(player, ID, seeds=range(20_000 + len(again), 20_000 + look)).returns.tolist()
            assert again == returns


def test_a_sampled_distillation_is_the_same_again(results: dict[str, Result], tmp_path: Path) -> None:
    again = distilled(tmp_path / "again", sampled=True)
    assert again["student"] == results["sampled"]["student"]
    assert again["teacher"] == results["sampled"]["teacher"]


def test_a_run_goes_on_as_it_was_begun(results: dict[str, Result]) -> None:
    with pytest.raises(KDError, match="was begun with sampled = True, not False"):
        distilled(results["sampled"].path, resume=True, sampled=False)


def test_an_action_of_a_sampled_student_is_drawn(results: dict[str, Result]) -> None:
    policy = load_policy(results["sampled"].student_file, seed=0)
    moves = [policy.act(np.zeros(4, np.float32)) for _ in range(300)]
    np.testing.assert_allclose(np.bincount(moves) / 300, 1 / 3, atol=0.1)


def test_what_cannot_be_played_by_samples_is_refused(results: dict[str, Result]) -> None:
    file = str(results["sampled"].student_file)
    with pytest.raises(KDError, match=r"student\.safetensors: is played by samples; kickstarting"):
        load_init(KickstartConfig(env=ID, init=file), spaces_of(ID))
    with pytest.raises(KDError, match="leave --sampled out"):
        Online().check(DistillConfig(env=ID, sampled=True, realtime=True))
    with pytest.raises(KDError, match="unknown setting 'sampled'"):
        kickstart({"env": ID, "sampled": True})
    teacher = load_teacher(nearly_uniform, env=spaces_of(ID))
    config = FollowDriftConfig(student="s.safetensors", teacher="t.zip", env=ID)
    with pytest.raises(KDError, match=r"s\.safetensors: is played by samples"):
        check_pair(config, make_graph(provenance={"env": ID, "play": "sampled"}), teacher)
