"""The server over stdio, spoken to by the official client, and its end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from sample_graphs import memory_graph
from samples import ROOT, make_graph, make_student

from kd_agent import KDError, evaluate, load_policy
from kd_agent.networks.distributions import head_for
from kd_agent.policies import file as graph_file
from kd_agent.policies.graph import ObservationSpec
from kd_agent.serving import server
from kd_agent.settings import ServeConfig

pytest.importorskip("mcp", reason="the MCP SDK is not installed")

import anyio
from mcp import Client
from mcp.client.stdio import StdioServerParameters

SCRIPT = str(ROOT / "scripts" / "serve_policies.py")
HERE = [0.0, 1.2, 0.1, -0.5, 0.05, 0.0, 0.0, 0.0]
MODES = ("auto", "legacy")
"""The SDK's newest protocol, and the handshake of those before it."""


@pytest.fixture(scope="module")
def lander(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student of LunarLander."""
    specs = {"obs": ObservationSpec((8,), "float32")}
    student = make_student(head_for(gym.spaces.Discrete(4)), observations=specs, hidden=(8,))
    return student.save(tmp_path_factory.mktemp("lander") / "lander.safetensors", {"env": "LunarLander-v3"})


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return graph_file.write(memory_graph("gru"), tmp_path_factory.mktemp("gru") / "gru.safetensors")


def session(files: list[Path], use: Callable[[Client], Awaitable[None]], mode: str = "auto") -> None:
    """Use a server in a process of its own."""
    words = [SCRIPT, *map(str, files), "--quiet"]
    parameters = StdioServerParameters(command=sys.executable, args=words, env=dict(os.environ))

    async def main() -> None:
        async with Client(parameters, mode=mode) as client:
            await use(client)

    anyio.run(main)


async def answer(client: Client, tool: str, **arguments: Any) -> Any:
    """What a tool answers, which is the same in text and in structure."""
    result = await client.call_tool(tool, arguments)
    [content] = result.content
    assert not result.is_error, content.text
    assert json.loads(content.text) == result.structured_content
    return result.structured_content


async def error(client: Client, tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    [content] = result.content
    assert result.is_error
    assert "\n" not in content.text
    return str(content.text)


@pytest.mark.parametrize("mode", MODES)
def test_a_client_uses_every_tool(lander: Path, mode: str) -> None:
    policy = load_policy(lander)

    async def use(client: Client) -> None:
        listed = (await client.list_tools()).tools
        assert [tool.name for tool in listed] == ["list_policies", "act", "probabilities", "explain", "play"]
        schema = listed[1].input_schema["properties"]["observation"]["anyOf"][0]
        names = schema["required"]
        assert names[:2] == ["x", "y"]
        [about] = (await answer(client, "list_policies"))["policies"]
        assert about["actions"]["names"]["2"] == "main engine"
        assert about["observation"]["anyOf"][0] == schema
        asked = {"policy": "lander", "observation": dict(zip(names, HERE, strict=True))}
        engines = list(about["actions"]["names"].values())
        action = policy.act(np.float32(HERE))
        assert await answer(client, "act", **asked) == {"action": action, "name": engines[action]}
        found = (await answer(client, "probabilities", **asked))["probabilities"]
        np.testing.assert_allclose(list(found.values()), policy.probabilities(np.float32(HERE))[0], atol=1e-6)
        explained = await answer(client, "explain", **asked)
        assert explained["action"] == action
        assert {feature["name"] for feature in explained["features"]} == set(names)
        played = await answer(client, "play", policy="lander", episodes=2, seed=5)
        returns = evaluate(policy, "LunarLander-v3", seeds=[5, 6]).returns
        assert played["returns"] == returns.tolist()

    session([lander], use, mode)


def test_a_wrong_call_is_an_error_of_one_line_and_the_server_goes_on(lander: Path) -> None:
    async def use(client: Client) -> None:
        assert "did you mean 'lander'" in await error(client, "act", policy="landr", observation=HERE)
        assert "policy is missing; choose from: lander" in await error(client, "act", observation=HERE)
        assert "has an array of 2; expected 8" in await error(client, "act", policy="lander", observation=[1, 2])
        assert "did you mean 'angle'" in await error(client, "act", policy="lander", observation={"angel": 1})
        assert "expected a finite number" in await error(client, "act", policy="lander", observation=[None] * 8)
        assert "expected a finite number" in await error(client, "act", policy="lander", observation=["a"] * 8)
        assert "did you mean 'act'" in await error(client, "acts")
        assert "choose from: episodes" in await error(client, "play", policy="lander", env="os:system")
        assert "name" in await answer(client, "act", policy="lander", observation=HERE)

    session([lander], use)


def test_a_memory_lasts_over_a_session(memory: Path) -> None:
    policy = load_policy(memory)
    states = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)

    async def use(client: Client) -> None:
        for first in (False, True):
            carried = None
            for step, state in enumerate(states):
                reset = {"reset": True} if first and step == 0 else {}
                asked = {"policy": "gru", "observation": state.tolist()}
                row, following = policy.step_batch({"obs": state[None]}, carried)
                if not reset:
                    found = await answer(client, "probabilities", **asked)
                    expected = policy.graph.head.probabilities(row)[0]
                    np.testing.assert_allclose(list(found["probabilities"].values()), expected, atol=2e-6)
                await answer(client, "act", **asked, **reset)
                carried = following

    session([memory], use)


def test_others_are_answered_while_a_policy_plays(lander: Path) -> None:
    async def use(client: Client) -> None:
        order: list[str] = []
        # Once before, so that what has to be imported is.
        await answer(client, "play", policy="lander", episodes=1)

        async def play() -> None:
            await answer(client, "play", policy="lander", episodes=1_000)
            order.append("play")

        async def act() -> None:
            await anyio.sleep(0.05)
            await answer(client, "act", policy="lander", observation=HERE)
            order.append("act")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(play)
            tasks.start_soon(act)
        assert order == ["act", "play"]

    session([lander], use)


NOISY = """
import os, sys
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv

class Noisy(CartPoleEnv):
    def step(self, action):
        print("a step", flush=True)
        os.write(1, b"a step in machine code\\n")
        return super().step(action)

gym.register("Noisy-v0", Noisy, max_episode_steps=5)
"""


def test_an_environment_that_prints_does_not_speak_to_the_client(tmp_path: Path) -> None:
    (tmp_path / "noisy.py").write_text(NOISY)
    make_student(head_for(gym.spaces.Discrete(2))).save(tmp_path / "s.safetensors", {"env": "nowhere-v0"})
    words = [SCRIPT, "s.safetensors", "--env", "noisy:Noisy-v0", "--quiet"]
    environment = dict(os.environ)
    parameters = StdioServerParameters(command=sys.executable, args=words, env=environment, cwd=tmp_path)

    async def main() -> None:
        async with Client(parameters) as client:
            played = await answer(client, "play", policy="s", episodes=2)
            assert played["returns"] == [5, 5]
            assert (await answer(client, "list_policies"))["policies"][0]["environment"] == "Noisy-v0"

    anyio.run(main)


def test_what_a_client_says_that_is_no_json_number_is_told_so(lander: Path) -> None:
    """NaN is no JSON, and some write it all the same."""
    call = {"name": "act", "arguments": {"policy": "lander", "observation": [float("nan")] * 8}}
    about = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}
    lines = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": about},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call},
    ]
    with started(lander) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in lines:
            process.stdin.write(json.dumps(line).encode() + b"\n")
        process.stdin.flush()
        answers = [json.loads(process.stdout.readline()) for _ in range(2)]
    assert answers[1]["id"] == 2
    assert answers[1]["result"]["isError"]
    assert "'x' is NaN; expected a finite number" in answers[1]["result"]["content"][0]["text"]


def test_what_is_no_message_is_told_so_and_the_server_goes_on(lander: Path) -> None:
    ping = b'{"jsonrpc": "2.0", "id": "alive", "method": "ping"}'
    wrong = [b"{", b"null", b"[" + ping + b"]", b"[" * 5000, b"\xff", b'{"jsonrpc": "2.0", "id": ' + b"9" * 5000 + b"}"]
    with started(lander) as process:
        out, _ = process.communicate(b"\n".join([*wrong, b"", ping]) + b"\n", timeout=60)
    answers = [json.loads(line) for line in out.splitlines()]
    assert [(answer["id"], answer["error"]["code"]) for answer in answers[:-1]] == [(None, -32700)] * len(wrong)
    assert answers[-1]["id"] == "alive"


def raw_call(number: int, tool: str, **arguments: Any) -> bytes:
    call = {"name": tool, "arguments": arguments}
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": call}).encode() + b"\n"


HANDSHAKE = (
    b'{"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-06-18", '
    b'"capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}}\n'
    b'{"jsonrpc": "2.0", "method": "notifications/initialized"}\n'
)


def test_what_was_asked_before_the_end_is_answered(lander: Path) -> None:
    calls = raw_call(1, "act", policy="lander", observation=HERE) + raw_call(2, "play", policy="lander", episodes=1)
    with started(lander) as process:
        out, _ = process.communicate(HANDSHAKE + calls + raw_call(3, "list_policies"), timeout=60)
    answers = {answer["id"]: answer["result"] for answer in map(json.loads, out.splitlines())}
    assert set(answers) == {0, 1, 2, 3}
    assert len(answers[2]["structuredContent"]["returns"]) == 1
    assert process.returncode == 0


def test_it_ends_where_its_client_is_gone(lander: Path) -> None:
    with started(lander) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(HANDSHAKE)
        process.stdin.flush()
        process.stdout.readline()
        process.stdout.close()
        # Nobody reads the first answer, and nobody waits for the second.
        process.stdin.write(raw_call(1, "list_policies") + raw_call(2, "play", policy="lander", episodes=1000))
        process.stdin.close()
        assert process.wait(timeout=30) == 0
        assert b"Traceback" not in process.stderr.read()


def test_an_environment_that_ends_the_process_ends_its_call(tmp_path: Path) -> None:
    (tmp_path / "leaving.py").write_text(NOISY.replace('print("a step", flush=True)', "sys.exit(3)"))
    make_student(head_for(gym.spaces.Discrete(2))).save(tmp_path / "s.safetensors", {"env": "nowhere-v0"})
    words = [SCRIPT, "s.safetensors", "--env", "leaving:Noisy-v0", "--quiet"]
    parameters = StdioServerParameters(command=sys.executable, args=words, env=dict(os.environ), cwd=tmp_path)

    async def main() -> None:
        async with Client(parameters) as client:
            assert "play wanted to end the process: exit 3" in await error(client, "play", policy="s", episodes=1)
            await answer(client, "act", policy="s", observation=[0, 0, 0, 0])

    anyio.run(main)


@contextmanager
def started(file: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server without a client."""
    pipe = subprocess.PIPE
    command = [sys.executable, SCRIPT, str(file), *words]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        try:
            yield process
        finally:
            process.kill()


def test_it_ends_with_its_client_and_says_nothing_on_standard_output(lander: Path) -> None:
    with started(lander) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, b"")
    assert err.decode() == f"kd_agent: serving {lander} over standard input and output\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_stops_at_once_though_the_client_says_nothing(lander: Path, number: int, code: int) -> None:
    ping = b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n'
    with started(lander, "--quiet") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(ping)
        process.stdin.flush()
        assert process.stdout.readline()  # it serves
        begun = time.monotonic()
        process.send_signal(number)
        assert process.wait(timeout=30) == code
        assert time.monotonic() - begun < 2
        assert process.stderr is not None
        assert process.stderr.read() == b"\nstopped\n"


def test_what_cannot_be_served_is_said_before_anybody_calls(lander: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KDError, match="unknown environment 'LunarLnder-v3'; did you mean 'LunarLander-v3'"):
        server.serve(ServeConfig(student=(str(lander),), env="LunarLnder-v3"))
    with pytest.raises(KDError, match=r"absent\.safetensors: there is no such file"):
        server.serve(ServeConfig(student=("absent.safetensors",)))
    monkeypatch.setattr(server, "find_spec", lambda name: None)
    with pytest.raises(KDError, match="serving needs the package 'mcp': pip install mcp"):
        server.serve(ServeConfig(student=(str(lander),)))


def test_the_seed_reaches_what_a_sampled_student_draws(tmp_path: Path) -> None:
    graph = make_graph(provenance={"env": "CartPole-v1", "play": "sampled"})
    file = graph_file.write(graph, tmp_path / "s.safetensors")
    drawn: dict[int, list[int]] = {}

    class Enough(Exception):
        """Nothing more is to be seen."""

    def told(function: Any, toolbox: Any) -> None:
        asked = {"policy": "s", "observation": [0, 0, 0, 0]}
        actions = [toolbox.call("act", asked)["action"] for _ in range(30)]
        drawn.setdefault(len(drawn), actions)
        raise Enough

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anyio, "run", told)
        patch.setattr(server.signal, "signal", lambda *arguments: None)
        for seed in (3, 3, 4):
            with pytest.raises(Enough):
                server.serve(ServeConfig(student=(str(file),), seed=seed))
    assert drawn[0] == drawn[1] != drawn[2]
