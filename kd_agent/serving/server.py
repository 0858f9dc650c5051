"""The MCP server: the tools over standard input and output, by the official SDK.

The SDK's low-level server hands arguments on unchecked; the tools check them, in words that a model can use.
"""

import json
import os
import signal
import sys
import threading
from importlib.util import find_spec
from typing import Any, NoReturn

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
    """Speak the protocol until standard input ends."""
    from mcp.server.stdio import stdio_server  # noqa: PLC0415

    server = make_server(toolbox)
    with claimed() as (incoming, outgoing):
        streams: dict[str, Any] = {"stdin": lines(incoming), "stdout": Writer(outgoing)}
        async with stdio_server(**streams) as (messages, answers):
            await server.run(messages, answers, server.create_initialization_options())


def make_server(toolbox: Toolbox) -> Any:
    """The tools as a server of the SDK, whatever it is connected to.

    Args:
        toolbox: The tools.
    """
    import anyio  # noqa: PLC0415
    import mcp_types as types  # noqa: PLC0415
    from mcp.server.lowlevel import Server  # noqa: PLC0415

    listed = []
    for tool in toolbox.tools.values():
        listed.append(types.Tool(name=tool.name, description=tool.description, input_schema=tool.schema))
    slow = {tool.name for tool in toolbox.tools.values() if tool.is_slow}
    # One at a time: two would play in one world.
    turns = anyio.CapacityLimiter(1)

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
        except KDError as error:
            return types.CallToolResult(content=[types.TextContent(type="text", text=str(error))], is_error=True)
        text = types.TextContent(type="text", text=json.dumps(answer))
        return types.CallToolResult(content=[text], structured_content=answer)

    return Server(
        "kd-agent",
        version=kd_agent.__version__,
        instructions=_INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )
