"""Where an agent goes: what it observes, does and is allowed, in a row, or random observations."""

from dataclasses import replace
from typing import Any

import masked_agents
import numpy as np
import pytest
from sample_graphs import GRAPHS
from samples import PROBES, make_graph, make_student

from kd_agent.deployment import walk as module
from kd_agent.deployment.agents import Agent, Reading, read_agent
from kd_agent.deployment.walk import MAX_NUMBERS, STEPS, answers, batches, walk
from kd_agent.environments.vector import make_env, spaces_of, start
from kd_agent.networks import head_for
from kd_agent.policies.graph import ObservationSpec
from kd_agent.policies.policy import Policy
from kd_agent.rollouts import episode_seeds
from kd_agent.runs.seeds import seed_of


def in_cartpole() -> Agent:
    head = head_for(spaces_of("CartPole-v1")[1])
    student = make_student(head, "mlp", {"obs": ObservationSpec((4,), "float32")})
    return read_agent(student.graph({"env": "CartPole-v1"}), Reading())


def test_an_agent_is_followed_through_its_environment() -> None:
    agent = in_cartpole()
    where = walk(agent, 400, seed=3)
    assert where.kind == "visited"
    observations = where.steps.observations["obs"]
    assert observations.shape == (400, 4)
    # Each of the four environments a stretch of its own, which begins an episode.
    assert where.steps.starts[[0, 100, 200, 300]].all()
    assert 4 < where.steps.starts.sum() < 100
    env = make_env("CartPole-v1", 4)
    first = start(env, episode_seeds(seed_of(3, "parity")))["obs"]
    np.testing.assert_array_equal(observations[[0, 100, 200, 300]], first)
    expected = Policy(agent.graph).predict(observations, deterministic=True)[0]
    np.testing.assert_array_equal(where.actions[:, 0], expected)
    followed = env.step(where.actions[[0, 100, 200, 300], 0].astype(int))[0]
    np.testing.assert_array_equal(observations[[1, 101, 201, 301]], followed.astype(np.float32))


def test_a_walk_follows_from_its_seed_and_has_a_usual_length() -> None:
    agent = in_cartpole()
    same = [walk(agent, 100, seed=3).steps.observations["obs"] for _ in range(2)]
    np.testing.assert_array_equal(*same)
    assert not np.array_equal(same[0], walk(agent, 100, seed=4).steps.observations["obs"])
    assert len(walk(agent).actions) == STEPS


def test_large_observations_are_fewer() -> None:
    graph = GRAPHS["pixels"]()
    numbers = sum(int(np.prod(spec.shape)) for spec in graph.observations.values())
    agent = Agent(graph, Policy(graph))
    assert len(walk(agent, 50).actions) == 50
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_NUMBERS", 20 * numbers + 1)
        assert len(walk(agent, 50).actions) == 20
    assert MAX_NUMBERS // (84 * 84 * 4) == 74


@pytest.mark.parametrize("name", masked_agents.SPACES)
def test_masks_are_those_of_each_step(name: str) -> None:
    kind = masked_agents.agent(name)
    agent = read_agent(str(kind.path), Reading(env=kind.env_id))
    with masked_agents.Tally() as tally:
        where = walk(agent, 200)
    assert (tally.steps, tally.invalid) == (200, 0)
    assert where.steps.masks is not None
    assert masked_agents.share_invalid(where.actions, where.steps.masks, name) == 0
    unmasked = replace(where.steps, masks=None)
    with pytest.warns(UserWarning, match="plays with action masks"):
        free = answers(agent.player, False, unmasked)
    assert masked_agents.share_invalid(free, where.steps.masks, name) > 0
    np.testing.assert_array_equal(answers(agent.player, False, where.steps), where.actions)


@pytest.mark.filterwarnings("ignore:.*plays with action masks")
def test_where_nobody_says_what_is_allowed_nothing_is_forbidden() -> None:
    agent = read_agent(str(masked_agents.agent("Discrete").path), Reading(env="MaskedNot-v0"))
    assert walk(agent, 40).steps.masks is None


def test_a_memory_is_carried_and_forgotten_at_starts() -> None:
    graph = GRAPHS["gru"]()
    agent = Agent(graph, Policy(graph))
    where = walk(agent, 130)
    assert np.flatnonzero(where.steps.starts).tolist() == [0, 64, 128]
    assert [len(part.starts) for part in batches(where.steps, recurrent=True)] == [1] * 130
    assert [len(part.starts) for part in batches(where.steps, recurrent=False)] == [130]
    forgetful = replace(where.steps, starts=np.ones(130, bool))
    assert not np.array_equal(answers(agent.player, True, forgetful), where.actions)
    second = {key: array[64:128] for key, array in where.steps.observations.items()}
    alone = replace(where.steps, observations=second, starts=where.steps.starts[64:128])
    np.testing.assert_array_equal(answers(agent.player, True, alone), where.actions[64:128])


def test_random_observations_are_of_the_policy_s_types() -> None:
    graph = make_graph()
    specs = {
        "obs": ObservationSpec((4,), "float32"),
        "image": ObservationSpec((3, 2, 1), "uint8"),
        "word": ObservationSpec((), "int64", (3,)),
        "dice": ObservationSpec((2,), "int64", (2, 5)),
        "bits": ObservationSpec((3,), "int8"),
    }
    graph = replace(graph, observations=specs)
    where = walk(Agent(graph, Policy(graph)), 300)
    assert where.kind == "random"
    found = where.steps.observations
    assert {key: (array.shape[1:], str(array.dtype)) for key, array in found.items()} == {
        key: (spec.shape, spec.dtype) for key, spec in specs.items()
    }
    assert set(found["word"]) == {0, 1, 2}
    assert (found["dice"].max(axis=0) == [1, 4]).all()
    assert set(np.unique(found["bits"])) == {0, 1}
    assert found["image"].max() > 200


def test_probes_of_every_space_are_walked(agents: dict[str, Any]) -> None:
    for name, env_id in PROBES.items():
        agent = read_agent(str(agents[name].path), Reading(env=env_id))
        where = walk(agent, 40)
        expected = agents[name].model.predict(where.steps.observations["obs"], deterministic=True)[0]
        np.testing.assert_allclose(where.actions, np.asarray(expected, float).reshape(40, -1), atol=1e-5)
