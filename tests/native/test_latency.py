"""The time of an action in C: every observation is used in every pass."""

from pathlib import Path

import numpy as np
import pytest
from compilers import without_compiler
from sample_graphs import GRAPHS, observations_for
from samples import make_graph

from kd_agent import KDError
from kd_agent.native import latency


@pytest.mark.parametrize("name", ["categorical", "multi_categorical", "lstm"])
def test_each_pass_is_timed_by_itself(name: str) -> None:
    graph = GRAPHS[name]()
    measure = latency.c_loop(graph, observations_for(graph, 64)["obs"])
    taken = measure()
    assert taken.shape == (latency.SAMPLES,)
    assert (taken > 0).all()
    assert 0 < np.median(taken) < 1e6
    assert measure() is not taken


def test_int8_is_other_code_and_observations_may_be_doubles_and_strided() -> None:
    graph = make_graph(hidden=(32, 32))
    observations = np.random.default_rng(0).normal(size=(64, 8))[:, ::2]
    assert np.median(latency.c_loop(graph, observations, int8=True)()) > 0
    with pytest.raises(KDError, match="this policy has none; write it without int8"):
        latency.c_loop(GRAPHS["student tree"](), observations, int8=True)


def test_without_a_compiler_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    without_compiler(tmp_path, monkeypatch)
    with pytest.raises(KDError, match="no C compiler found"):
        latency.c_loop(make_graph(), np.zeros((1, 4), np.float32))
