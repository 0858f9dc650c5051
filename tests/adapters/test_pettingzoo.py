"""PettingZoo: what an adapter plays is what a loop by hand plays, in both forms, with masks, memories and seeds."""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from sample_graphs import linear, memory_graph
from samples import HEADS, TINY
from sb3_contrib import MaskablePPO

from kd_agent import KDError, distill, evaluate, load_policy
from kd_agent.policies import file as graph_file
from kd_agent.policies.graph import ObservationSpec, Op, PolicyGraph
from kd_agent.policies.head import HeadSpec
from kd_agent.policies.policy import Policy

pytest.importorskip("pettingzoo", reason="PettingZoo is not installed")

from pettingzoo import make

from kd_agent.adapters.pettingzoo import Agent, FrozenOpponents

BOARD = {"obs": ObservationSpec((3, 3, 2), "int8")}
NINE = HeadSpec("categorical", (), "int64", nvec=(9,), start=(0,), expects_masks=True)
MOVES = HeadSpec("categorical", (), "int64", nvec=(3,), start=(0,))
PLAYERS = ("player_1", "player_2")
RPS, TIC_TAC_TOE = "classic/rps-v2", "classic/tictactoe-v3"


def player(seed: int = 0, *, sampled: bool = False) -> Policy:
    """A student of tic-tac-toe that knows nothing but the rules."""
    ops = (Op("flatten", ("obs",), "flat"), linear("flat", "params", 9, 18, seed))
    return Policy(PolicyGraph(BOARD, ops, NINE, {"play": "sampled"} if sampled else {}))


def mover(seed: int = 0, *, sampled: bool = False) -> Policy:
    """A student of rock, paper, scissors."""
    specs = {"obs": ObservationSpec((), "int64", (4,))}
    ops = (Op("one_hot", ("obs",), "hot", {"sizes": [4]}), linear("hot", "params", 3, 4, seed))
    return Policy(PolicyGraph(specs, ops, MOVES, {"play": "sampled"} if sampled else {}))


class Fixed:
    """Plays one move, and writes down what it is asked."""

    def __init__(self, move: int) -> None:
        self.move = move
        self.asked: list[tuple[Any, bool]] = []

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> Any:
        self.asked.append((observation, bool(episode_start[0])))
        return np.array(self.move), ("memory",)


def rounds(env: gym.Env[Any, Any], moves: list[int], seed: int = 0) -> list[tuple[Any, float, bool]]:
    env.reset(seed=seed)
    found = []
    for move in moves:
        observation, reward, terminated, truncated, _ = env.step(move)
        found.append((observation, reward, terminated or truncated))
    return found


@pytest.mark.parametrize("form", ["aec", "parallel"])
def test_both_forms_of_a_game_are_met_alike(form: Any) -> None:
    opponent = Fixed(1)
    env = FrozenOpponents(make(form, RPS, max_cycles=3), opponent, agent="player_0")
    # Paper: beaten by scissors (2), and by nothing else.
    assert rounds(env, [0, 1, 2]) == [(1, -1, False), (1, 0, False), (1, 1, True)]
    assert [int(seen) for seen, _ in opponent.asked] == [3, 0, 1]
    assert rounds(env, [2, 2, 2])[-1] == (1, 1, True)
    assert [begins for _, begins in opponent.asked] == [True, False, False] * 2


def test_gymnasiums_own_check_passes() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        check_env(FrozenOpponents(make("aec", RPS, max_cycles=4), mover(), agent="player_0"), skip_render_check=True)


def by_hand(seed: int, learner: Agent, others: dict[str, Agent], name: str) -> float:
    """A game in PettingZoo's own loop: the learner's return."""
    env = make("aec", TIC_TAC_TOE)
    env.reset(seed=seed)
    total = 0.0
    for agent in env.agent_iter():
        observation, reward, terminated, truncated, _ = env.last()
        if agent == name:
            total += reward
        action = None
        if not (terminated or truncated):
            action = (learner if agent == name else others[agent]).act(observation)
        env.step(action)
    return total


@pytest.mark.parametrize("name", PLAYERS)
def test_a_game_is_played_as_in_pettingzoos_own_loop(name: str) -> None:
    scores = set()
    for seed in range(12):
        learner, opponent = player(seed), player(100 + seed)
        env = FrozenOpponents(make("aec", TIC_TAC_TOE), opponent, agent=name)
        seen, _ = env.reset(seed=seed)
        # Who moves second is asked when the first has moved.
        assert int(seen.sum()) == PLAYERS.index(name)
        ended, total = False, 0.0
        while not ended:
            seen, reward, ended, _, _ = env.step(learner.act(seen, env.action_masks()))
            total += reward
        [other] = set(PLAYERS) - {name}
        assert total == by_hand(seed, Agent(learner), {other: Agent(opponent)}, name)
        scores.add(total)
    assert len(scores) > 1


def test_masks_are_those_of_the_game_and_only_games_that_have_them_are_asked() -> None:
    env = FrozenOpponents(make("aec", TIC_TAC_TOE), player(3), agent="player_1")
    env.reset(seed=0)
    assert env.action_masks().tolist() == [True] * 9
    seen, *_ = env.step(4)
    free = seen.reshape(9, 2).sum(1) == 0
    # PettingZoo numbers the fields column by column, and so does its picture of the board.
    assert sorted(env.action_masks().tolist()) == sorted(free.tolist())
    assert not env.action_masks()[4]
    assert env.observation_space.shape == (3, 3, 2)
    assert not hasattr(FrozenOpponents(make("aec", RPS), mover(), agent="player_0"), "action_masks")


def trace(env: gym.Env[Any, Any], seed: int) -> list[Any]:
    return [observation for observation, _, _ in rounds(env, [0] * 12, seed)]


def test_the_seed_decides_what_a_sampled_opponent_draws() -> None:
    env = FrozenOpponents(make("aec", RPS, max_cycles=12), mover(sampled=True), agent="player_0")
    first = trace(env, 5)
    assert trace(env, 5) == first
    assert trace(FrozenOpponents(make("aec", RPS, max_cycles=12), mover(sampled=True), agent="player_0"), 5) == first
    assert trace(env, 6) != first
    assert len(set(first)) > 1
    # Without a seed games go on being other games.
    games = []
    for _ in range(4):
        env.reset()
        games.append([env.step(0)[0] for _ in range(12)])
    assert len({tuple(game) for game in games}) > 1


def test_an_opponents_memory_lasts_for_a_game() -> None:
    graph = memory_graph("gru")
    agent = Agent(Policy(graph))
    states = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    expected = []
    memory: Any = None
    for state in states:
        action, memory = Policy(graph).predict(state, memory, deterministic=True)
        expected.append(int(action))
    for _ in range(2):
        agent.reset()
        assert [agent.act(state) for state in states] == expected
    # It matters here: with what it remembers of the last game it plays another one.
    assert [agent.act(state) for state in states] != expected
    memoryless = [int(Policy(graph).predict(state, deterministic=True)[0]) for state in states]
    assert memoryless != expected


def test_a_mask_reaches_the_policy_from_the_observation_or_beside_it() -> None:
    agent = Agent(player())
    board = np.zeros((3, 3, 2), np.int8)
    for only in (2, 7):
        mask = np.arange(9) == only
        assert agent.act({"observation": board, "action_mask": mask.astype(np.int8)}) == only
        assert agent.act(board, mask) == only
        assert isinstance(agent.act(board, mask), int)
    assert Agent(Fixed(1)).act(board, mask) == 1  # it knows of no masks


def test_samples_are_drawn_where_that_is_asked_for_or_meant() -> None:
    def drawn(agent: Agent) -> list[Any]:
        agent.reset(1)
        return [agent.act(3) for _ in range(30)]

    assert len(set(drawn(Agent(mover())))) == 1
    assert len(set(drawn(Agent(mover(), deterministic=False)))) > 1
    assert len(set(drawn(Agent(mover(sampled=True))))) > 1
    assert len(set(drawn(Agent(mover(sampled=True), deterministic=True)))) == 1
    assert drawn(Agent(mover(sampled=True))) == drawn(Agent(mover(sampled=True)))


def test_continuous_actions_stay_arrays() -> None:
    specs = {"obs": ObservationSpec((4,), "float32")}
    ops = (linear("obs", "mean", 2, 4), Op("append", ("mean",), "params", {}, {"value": np.zeros(2, np.float32)}))
    policy = Policy(PolicyGraph(specs, ops, HEADS["diag_gaussian"].spec))
    here = np.float32([0.1, 0.2, 0.3, 0.4])
    np.testing.assert_array_equal(Agent(policy).act(here), policy.act(here))


def test_what_is_no_game_is_told_so() -> None:
    with pytest.raises(KDError, match="env is a str; expected an environment of PettingZoo, AEC or parallel"):
        FrozenOpponents("classic/tictactoe-v3", Fixed(0), agent="player_1")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("agent", "opponents", "answer"),
    [
        ("player_3", Fixed(0), "unknown agent 'player_3'; did you mean 'player_"),
        ("player_1", {}, "opponents lack a policy for 'player_2'"),
        ("player_1", {"player_1": Fixed(0)}, "unknown opponent 'player_1'; did you mean 'player_2'"),
        ("player_1", {"player_2": "student"}, r"a policy with a method predict\(\), and got str"),
        ("player_1", None, r"a policy with a method predict\(\), and got NoneType"),
    ],
)
def test_a_wrong_seat_is_one_line(agent: str, opponents: Any, answer: str) -> None:
    with pytest.raises(KDError, match=answer):
        FrozenOpponents(make("aec", TIC_TAC_TOE), opponents, agent=agent)


def test_each_opponent_is_the_one_of_its_name() -> None:
    env = FrozenOpponents(make("aec", RPS, max_cycles=2), {"player_0": Fixed(2)}, agent="player_1")
    assert [seen for seen, _, _ in rounds(env, [0, 0])] == [2, 2]


def test_an_agent_of_sb3_contrib_learns_against_a_frozen_opponent_and_is_one_itself() -> None:
    env = FrozenOpponents(make("aec", TIC_TAC_TOE), player(3), agent="player_1")
    sizes = {"n_steps": 32, "batch_size": 32, "n_epochs": 1, "policy_kwargs": {"net_arch": [8]}}
    model = MaskablePPO("MlpPolicy", env, seed=0, device="cpu", **sizes)
    model.learn(32)
    other = FrozenOpponents(make("aec", TIC_TAC_TOE), model, agent="player_2")
    for seed in range(5):
        seen, _ = other.reset(seed=seed)
        ended = False
        while not ended:
            seen, _, ended, _, _ = other.step(player(seed).act(seen, other.action_masks()))
        # Who breaks the rules ends the game at once; a game by the rules has five moves at least.
        assert int(seen.sum()) >= 5


@pytest.fixture
def tictactoe() -> Iterator[str]:
    """Tic-tac-toe against a frozen student, registered as any environment."""
    env_id = "FrozenTicTacToe-v0"
    gym.register(env_id, lambda: FrozenOpponents(make("aec", TIC_TAC_TOE), player(7, sampled=True), agent="player_1"))
    yield env_id
    gym.registry.pop(env_id)


def test_a_student_is_distilled_against_a_frozen_opponent_and_keeps_to_the_rules(
    tictactoe: str, tmp_path: Path
) -> None:
    teacher = replace(player(1).graph, provenance={"env": tictactoe})
    file = graph_file.write(teacher, tmp_path / "teacher.safetensors")
    result = distill({**TINY, "env": tictactoe, "teacher": str(file), "out": str(tmp_path / "run")})
    student = load_policy(tmp_path / "run" / "student.safetensors")
    assert student.expects_masks
    assert result["student"]["agreement"] > 0.5
    # Who breaks the rules loses at once, and that is all that PettingZoo says of it.
    env = gym.make(tictactoe)
    agent = Agent(student)
    for seed in range(20):
        seen, _ = env.reset(seed=seed)
        ended = False
        while not ended:
            mask = env.get_wrapper_attr("action_masks")()
            action = agent.act(seen, mask)
            assert mask[action]
            seen, _, ended, _, _ = env.step(action)
    assert len(set(evaluate(student, tictactoe, seeds=range(20)).returns.tolist())) > 1
