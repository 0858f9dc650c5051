"""The tools: arguments reach the student that they name, and a wrong one is a line for the model."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from masked_agents import masked_graph
from sample_graphs import memory_graph
from samples import make_graph

from kd_agent import KDError
from kd_agent.policies import file as graph_file
from kd_agent.policies.graph import PolicyGraph
from kd_agent.policies.policy import Policy
from kd_agent.serving.students import ServedStudent
from kd_agent.serving.tools import MAX_EPISODES, Toolbox
from kd_agent.settings import ServeConfig

HERE = [0.1, -0.2, 0.3, 0.4]


def toolbox(**graphs: PolicyGraph) -> Toolbox:
    students = {name: ServedStudent(name, f"{name}.safetensors", graph) for name, graph in graphs.items()}
    return Toolbox(students, ServeConfig(student=tuple(students)))


def refused(tools: Toolbox, tool: str, **arguments: Any) -> str:
    with pytest.raises(KDError) as caught:
        tools.call(tool, arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_five_tools_say_what_they_take() -> None:
    tools = toolbox(one=make_graph()).tools
    assert list(tools) == ["list_policies", "act", "probabilities", "explain", "play"]
    for tool in tools.values():
        assert tool.schema["type"] == "object"
        assert tool.schema["additionalProperties"] is False
        assert tool.description
    assert tools["act"].schema["properties"]["policy"]["enum"] == ["one"]
    assert "pole angle" in tools["act"].schema["properties"]["observation"]["anyOf"][0]["properties"]
    assert {name for name, tool in tools.items() if tool.is_slow} == {"explain", "play"}


def test_schemas_have_masks_and_memory_only_where_a_student_has() -> None:
    def arguments(**graphs: PolicyGraph) -> set[str]:
        return set(toolbox(**graphs).tools["act"].schema["properties"]) - {"policy", "observation"}

    assert arguments(box=make_graph("diag_gaussian")) == set()
    assert arguments(listed=make_graph()) == {"action_mask"}
    assert arguments(box=make_graph("diag_gaussian"), gru=memory_graph("gru")) == {"action_mask", "reset"}


def test_several_students_have_one_schema_each_unless_they_are_alike() -> None:
    alike = toolbox(a=make_graph(), b=make_graph()).tools["act"].schema["properties"]["observation"]
    assert alike["anyOf"][0]["type"] == "object"
    both = (
        toolbox(a=make_graph(), b=make_graph(provenance={"env": "nowhere-v0"}))
        .tools["act"]
        .schema["properties"]["observation"]
    )
    assert [sorted(set(schema) & {"anyOf", "type"}) for schema in both["anyOf"]] == [["anyOf"], ["type"]]


def test_a_call_reaches_the_student_that_it_names() -> None:
    graphs = {"discrete": make_graph(provenance={"env": "nowhere-v0"}), "box": make_graph("diag_gaussian", {})}
    tools = toolbox(**graphs)
    for name, graph in graphs.items():
        expected = np.asarray(Policy(graph).act(np.float32(HERE))).tolist()
        assert tools.call("act", {"policy": name, "observation": HERE})["action"] == expected
    found = tools.call("probabilities", {"policy": "discrete", "observation": HERE})["probabilities"]
    expected = Policy(graphs["discrete"]).probabilities(np.float32(HERE))[0]
    np.testing.assert_allclose(list(found.values()), expected, atol=1e-6)
    listed = tools.call("list_policies", {})["policies"]
    assert [policy["name"] for policy in listed] == ["discrete", "box"]
    assert [policy["actions"]["kind"] for policy in listed] == ["discrete", "continuous"]


def test_a_mask_and_a_reset_reach_the_student() -> None:
    tools = toolbox(masked=masked_graph(), gru=memory_graph("gru"))
    for only in range(4):
        mask = [index == only for index in range(4)]
        assert tools.call("act", {"policy": "masked", "observation": HERE, "action_mask": mask})["action"] == only
        found = tools.call("probabilities", {"policy": "masked", "observation": HERE, "action_mask": mask})
        assert list(found["probabilities"].values()) == mask
    asked = {"policy": "gru", "observation": HERE}
    first = tools.call("probabilities", asked)
    tools.call("act", asked)
    assert tools.call("probabilities", asked) != first
    # Begun anew and one step on: where the first call of act had led.
    second = tools.call("probabilities", asked)
    tools.call("act", {**asked, "reset": True})
    assert tools.call("probabilities", asked) == second


def test_acting_needs_no_torch(tmp_path: Path) -> None:
    path = graph_file.write(make_graph(), tmp_path / "s.safetensors")
    code = f"""
import sys
from kd_agent.serving.students import served_students
from kd_agent.serving.tools import Toolbox
from kd_agent.settings import ServeConfig
config = ServeConfig(student=({str(path)!r},))
tools = Toolbox(served_students(config.student), config)
asked = {{"policy": "s", "observation": [0, 0, 0, 0]}}
tools.call("list_policies", {{}}), tools.call("act", asked), tools.call("probabilities", asked)
heavy = {{"torch", "stable_baselines3", "gymnasium", "scipy", "mcp"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("tool", "arguments", "answer"),
    [
        ("acts", {}, "unknown tool 'acts'; did you mean 'act'?"),
        ("act", {"observation": HERE}, "policy is missing; choose from: cart, gru"),
        ("act", {"policy": "cart"}, "observation is missing"),
        ("act", {"policy": "carts", "observation": HERE}, "unknown policy 'carts'; did you mean 'cart'?"),
        ("act", {"policy": ["cart"], "observation": HERE}, "unknown policy 'an array'; choose from: cart, gru"),
        ("act", {"policy": "cart", "observations": HERE}, "unknown argument of act 'observations'; did you mean 'obs"),
        ("act", {"policy": "cart", "observation": HERE[:3]}, "observation has an array of 3; expected 4 numbers"),
        ("act", {"policy": "cart", "observation": HERE, "reset": True}, "reset: 'cart' has no memory to reset"),
        ("act", {"policy": "gru", "observation": HERE, "reset": "yes"}, 'reset is "yes"; expected true or false'),
        ("act", {"policy": "cart", "observation": HERE, "action_mask": [1]}, "action_mask is 1 entries; expected an"),
        ("probabilities", {"policy": "cart", "observation": None}, "observation has null for an array"),
        ("explain", {"policy": "cart", "observation": "up"}, 'observation has "up" for an array'),
        ("play", {"policy": "cart", "env": "os:x"}, "unknown argument of play 'env'; choose from: episodes, policy"),
        ("play", {"policy": "cart", "episodes": 0}, "episodes is 0; expected a whole number from 1 to 1000"),
        ("play", {"policy": "cart", "episodes": True}, "episodes is true; expected a whole number"),
        ("play", {"policy": "cart", "episodes": 1.5}, "episodes is 1.5; expected a whole number from 1 to 1000"),
        ("play", {"policy": "cart", "episodes": float("nan")}, "episodes is NaN; expected a whole number"),
        ("list_policies", {"policy": "cart"}, "unknown argument of list_policies 'policy'; there is none to choose"),
        ("play", {"policy": "cart", "seed": -1}, "seed is -1; expected a whole number from 0 to"),
        ("play", {"policy": "cart", "seed": 2**31}, "seed is 2147483648; expected a whole number from 0 to"),
    ],
)
def test_a_wrong_call_is_told_what_is_wrong(tool: str, arguments: dict[str, Any], answer: str) -> None:
    assert refused(toolbox(cart=make_graph(), gru=memory_graph("gru")), tool, **arguments).startswith(answer)


def test_playing_and_explaining_reach_the_world_of_the_student(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    class World:
        def __init__(self, student: ServedStudent, config: ServeConfig) -> None:
            told.append((student.name, config.seed))

        def play(self, episodes: int, seed: int) -> dict[str, Any]:
            return {"episodes": episodes, "seed": seed}

        def explain(self, observation: Any, mask: Any) -> dict[str, Any]:
            return {"observation": observation["obs"].tolist(), "mask": mask.tolist()}

    monkeypatch.setattr("kd_agent.serving.world.World", World)
    tools = toolbox(a=make_graph(), b=make_graph())
    assert tools.call("play", {"policy": "b"}) == {"episodes": 10, "seed": 20_000}
    assert tools.call("play", {"policy": "b", "episodes": MAX_EPISODES, "seed": 7}) == {"episodes": 1000, "seed": 7}
    # A whole number of JSON, as a client may write it.
    assert tools.call("play", {"policy": "b", "episodes": 2.0}) == {"episodes": 2, "seed": 20_000}
    mask = [True, False, True, True]
    found = tools.call("explain", {"policy": "a", "observation": [1, 2, 3, 4], "action_mask": mask})
    assert found == {"observation": [1, 2, 3, 4], "mask": mask}
    # Once each: a world is not cheap.
    assert told == [("b", 0), ("a", 0)]
