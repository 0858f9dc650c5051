"""The MCP server: the tools over standard input and output, by the official SDK.

The SDK's low-level server hands arguments on unchecked; the tools check them, in words that a model can use.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from importlib.util import find_spec
from typing import Any, BinaryIO, NoReturn

import kd_agent
from kd_agent.errors import KDError
from kd_agent.serving.stdio import Writer, claimed, lines
from kd_agent.serving.students import served_students
from kd_agent.serving.tools import Toolbox
from kd_agent.settings import ServeConfig

_INSTRUCTIONS = (
    "Small policies distilled from reinforcement-learning agents. list_policies says what each observes and does; act "
    "answers an observation with an action."
)
_NO_MESSAGE = (
    '{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error: expected a message of JSON-RPC 2.0"}}\n'
)
_LAST_ANSWERS = 0.2
"""Seconds in which quick calls that came before the end are answered."""


def serve(config: ServeConfig) -> None:
    """Serve students until the client hangs up.

    Args:
        config: The settings.

    Raises:
        KDError: The SDK is not installed, a student cannot be read, or a typed environment does not fit one.
    """
    if find_spec("mcp") is None:
        raise KDError("serving needs the package 'mcp': pip install mcp")
    students = served_students(config.student, config.env, config.seed)
    toolbox = Toolbox(students, config)
    if config.env or config.env_kwargs or config.wrapper:
        # What is typed wrong is to be said now, and not to a model in the midst of its work.
        for name in students:
            toolbox.world(name)
    if threading.current_thread() is threading.main_thread():
        # A thread that waits for the client's next line would keep a process that ends by itself.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _stop)
    # Late: this module is read on machines that lack the SDK, too.
    import anyio  # noqa: PLC0415

    anyio.run(_served, toolbox)


def _stop(number: int, frame: Any) -> NoReturn:
    """End at once: nothing is to be saved."""
    print("\nstopped", file=sys.stderr, flush=True)
    os._exit(128 + number)


async def _served(toolbox: Toolbox) -> None:
    """Speak the protocol until standard input ends and what was asked is answered."""
    import anyio  # noqa: PLC0415
    from mcp.server.stdio import stdio_server  # noqa: PLC0415

    # One at a time: two would play in one world.
    turns = anyio.CapacityLimiter(1)
    server = make_server(toolbox, turns)
    with claimed() as (incoming, outgoing):
        writer = Writer(outgoing)
        streams: dict[str, Any] = {"stdin": _heard(incoming, writer, turns), "stdout": writer}
        async with stdio_server(**streams) as (messages, answers):
            await server.run(messages, answers, server.create_initialization_options())


async def _heard(incoming: BinaryIO, writer: Writer, turns: Any) -> AsyncIterator[str]:
    """The client's messages; what is none is told so, and the end waits for the last answers.

    The SDK drops the one without a word, and with the end what it is about to answer.

    Args:
        incoming: Standard input.
        writer: Standard output.
        turns: Who is borrowed while a slow tool runs.
    """
    import anyio  # noqa: PLC0415
    import mcp_types as types  # noqa: PLC0415

    async for line in lines(incoming):
        if not line.strip():
            continue
        try:
            types.jsonrpc_message_adapter.validate_json(line, by_name=False)
        except ValueError:
            await writer.write(_NO_MESSAGE)
        else:
            yield line
    await anyio.sleep(_LAST_ANSWERS)
    while turns.borrowed_tokens:
        if writer.is_heard():
            await anyio.sleep(_LAST_ANSWERS)
        else:
            # A thread plays on for nobody, and would keep the process.
            os._exit(0)


def make_server(toolbox: Toolbox, turns: Any) -> Any:
    """The tools as a server of the SDK, whatever it is connected to.

    Args:
        toolbox: The tools.
        turns: The limiter by which slow tools run one after the other.
    """
    import anyio  # noqa: PLC0415
    import mcp_types as types  # noqa: PLC0415
    from mcp.server.lowlevel import Server  # noqa: PLC0415

    listed = []
    for tool in toolbox.tools.values():
        listed.append(types.Tool(name=tool.name, description=tool.description, input_schema=tool.schema))
    slow = {tool.name for tool in toolbox.tools.values() if tool.is_slow}

    async def list_tools(context: Any, params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=listed)

    async def call_tool(context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        arguments = params.arguments or {}
        try:
            if params.name in slow:
                # In a thread, so that the server answers others meanwhile.
                answer = await anyio.to_thread.run_sync(toolbox.call, params.name, arguments, limiter=turns)
            else:
                answer = toolbox.call(params.name, arguments)
        except (KDError, SystemExit) as error:
            said = str(error)
            if isinstance(error, SystemExit):
                # Of an environment: it ends its call, and not the others'.
                said = f"{params.name} wanted to end the process: exit {error}"
            return types.CallToolResult(content=[types.TextContent(type="text", text=said)], is_error=True)
        text = types.TextContent(type="text", text=json.dumps(answer))
        return types.CallToolResult(content=[text], structured_content=answer)

    return Server(
        "kd-agent",
        version=kd_agent.__version__,
        instructions=_INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )
