"""Every compressor: the same spaces, nearly the same answers, the original untouched; a new one is found by itself."""

import inspect
from pathlib import Path

import numpy as np
import pytest
from sample_graphs import observations_for
from samples import HEADS, make_graph

from kd_agent import load_policy, plugins
from kd_agent.policies import file as graph_file
from kd_agent.policies.graph import PolicyGraph
from kd_agent.policies.policy import Policy

FAR = {"ternary": 0.6}
"""How far answers may be, in standard deviations, where it is more than a fifth: what needs a fit to be of use."""
every_compressor = pytest.mark.parametrize("name", plugins.names("compress"))


def wide(kind: str = "categorical") -> tuple[PolicyGraph, dict[str, np.ndarray]]:
    graph = make_graph(kind, hidden=(32, 24), activation="tanh")
    return graph, observations_for(graph, 500)


@pytest.mark.parametrize("kind", HEADS)
@every_compressor
def test_a_compressor_keeps_the_spaces_and_leaves_the_original_alone(name: str, kind: str) -> None:
    graph, observations = wide(kind)
    before = [tensor.copy() for op in graph.ops for tensor in op.tensors.values()]
    small = plugins.load("compress", name).compress(graph, observations)
    after = [tensor for op in graph.ops for tensor in op.tensors.values()]
    assert all(map(np.array_equal, before, after))
    assert (small.observations, small.head) == (graph.observations, graph.head)
    wanted = Policy(graph).params_batch(observations)
    found = Policy(small).params_batch(observations)
    acting = graph.head.num_acting
    assert found.dtype == np.float32
    assert np.abs(wanted - found)[:, :acting].mean() < FAR.get(name, 0.2) * wanted[:, :acting].std()


@every_compressor
def test_a_compressor_needs_no_settings_and_takes_them_by_name(name: str) -> None:
    parameters = list(inspect.signature(plugins.load("compress", name).compress).parameters.values())
    assert [parameter.name for parameter in parameters[:2]] == ["graph", "observations"]
    for parameter in parameters[2:]:
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert parameter.default is not parameter.empty


@every_compressor
def test_what_a_compressor_makes_can_be_saved_and_compressed_again(name: str, tmp_path: Path) -> None:
    graph, observations = wide()
    compress = plugins.load("compress", name).compress
    small = compress(graph, observations)
    saved = load_policy(graph_file.write(small, tmp_path / "small.safetensors"))
    np.testing.assert_array_equal(saved.params_batch(observations), Policy(small).params_batch(observations))
    assert compress(small, observations).num_parameters <= small.num_parameters


@every_compressor
def test_the_same_states_give_the_same_policy(name: str) -> None:
    compress = plugins.load("compress", name).compress
    first, second = (Policy(compress(*wide())).params_batch(wide()[1]) for _ in range(2))
    np.testing.assert_array_equal(first, second)
