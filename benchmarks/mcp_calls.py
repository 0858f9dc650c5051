"""Calls a second of the MCP server: `act` beside a tool of the SDK that does nothing.

    python benchmarks/mcp_calls.py --rounds 5

The official client calls one tool after the other over stdio; client and server are two processes that share one core.
A call's CPU time is that of a longer session less that of a shorter one, so that starting counts nowhere. The rows of a
round are measured one after the other; shown are medians over the rounds, and the least and the most.
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import anyio
import gymnasium as gym
import torch
from mcp import Client
from mcp.client.stdio import StdioServerParameters

from kd_agent import plugins
from kd_agent.networks.distributions import head_for
from kd_agent.policies.graph import ObservationSpec
from kd_agent.policies.names import number_names
from kd_agent.policies.normalizer import Normalizer

ENV = "LunarLander-v3"
HERE = [0.0, 1.2, 0.1, -0.5, 0.05, 0.0, 0.0, 0.0]
SHORT, LONG = 100, 1100
NO_OP = """
import anyio
import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

TOOLS = [types.Tool(name="act", description="Nothing.", input_schema={"type": "object"})]
ANSWER = {"action": 2, "name": "main engine"}

async def list_tools(context, params):
    return types.ListToolsResult(tools=TOOLS)

async def call_tool(context, params):
    text = types.TextContent(type="text", text='{"action": 2, "name": "main engine"}')
    return types.CallToolResult(content=[text], structured_content=ANSWER)

async def main():
    server = Server("no-op", on_list_tools=list_tools, on_call_tool=call_tool)
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())

anyio.run(main)
"""


def student(folder: Path) -> Path:
    """A student of LunarLander with two layers of 16."""
    specs = {"obs": ObservationSpec((8,), "float32")}
    normalizers = {"obs": Normalizer([0.0] * 8, [1.0] * 8, clip=10.0)}
    torch.manual_seed(0)
    built = plugins.load("students", "mlp").build(specs, head_for(gym.spaces.Discrete(4)), normalizers, hidden=(16, 16))
    path: Path = built.save(folder / "lander.safetensors", {"env": ENV})
    return path


@contextmanager
def one_core() -> Iterator[None]:
    """This process and those that it starts, on one core."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    yield
    os.sched_setaffinity(0, allowed)


async def session(words: list[str], tool: str, arguments: dict[str, object], calls: int) -> float:
    """Seconds that so many calls took."""
    parameters = StdioServerParameters(command=sys.executable, args=words, env=dict(os.environ))
    async with Client(parameters) as client:
        await client.list_tools()
        for _ in range(20):
            await client.call_tool(tool, arguments)
        begun = time.perf_counter()
        for _ in range(calls):
            result = await client.call_tool(tool, arguments)
            assert not result.is_error, result.content
        return time.perf_counter() - begun


def measure(words: list[str], tool: str, arguments: dict[str, object]) -> tuple[float, float, float]:
    """Calls a second, and the server's and the client's CPU microseconds a call."""
    cpu = []
    for calls in (SHORT, LONG):
        own, others = time.process_time(), children()
        seconds = anyio.run(session, words, tool, arguments, calls)
        cpu.append((children() - others, time.process_time() - own))
    per_call = [1e6 * (long - short) / (LONG - SHORT) for short, long in zip(*cpu, strict=True)]
    return LONG / seconds, per_call[0], per_call[1]


def children() -> float:
    """CPU seconds of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    by_name = dict(zip(number_names(ENV, (8,)), HERE, strict=True))
    with tempfile.TemporaryDirectory() as folder, one_core():
        serving = ["-m", "kd_agent", "serve", str(student(Path(folder))), "--quiet"]
        rows: dict[str, tuple[list[str], str, dict[str, object]]] = {
            "a tool of the SDK that does nothing": (["-c", NO_OP], "act", {"policy": "lander", "observation": HERE}),
            "act, an array": (serving, "act", {"policy": "lander", "observation": HERE}),
            "act, by name": (serving, "act", {"policy": "lander", "observation": by_name}),
            "probabilities": (serving, "probabilities", {"policy": "lander", "observation": HERE}),
        }
        found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in rows}
        for _ in range(rounds):
            for name, row in rows.items():
                found[name].append(measure(*row))
    print(f"| call ({rounds} rounds of {LONG:,}) | calls/s | server, us CPU | client, us CPU | calls a CPU second |")
    print("|---|---|---|---|---|")
    for name, measured in found.items():
        cells = []
        # The last is what a core with nothing else to do would reach.
        rows_of_it = [(*row, 1e6 / (row[1] + row[2])) for row in measured]
        for column in zip(*rows_of_it, strict=True):
            cells.append(f"{median(column):.0f} [{min(column):.0f}, {max(column):.0f}]")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
