"""Standard input and output are the protocol's alone while it is spoken, and whole."""

import io
import subprocess
import sys
from typing import Any, cast

import anyio

from kd_agent.serving.stdio import Writer, lines

PROGRAM = """
import subprocess, sys
from kd_agent.serving.stdio import claimed
print("before")
with claimed() as (incoming, outgoing):
    print("printed", flush=True)
    child = "import sys; print('child read', repr(sys.stdin.read()))"
    subprocess.run([sys.executable, "-c", child], check=True)
    outgoing.write(b"spoken: " + incoming.readline())
print("after")
print("read", sys.stdin.readline().strip())
"""


def test_what_is_printed_meanwhile_does_not_reach_the_client_and_nobody_else_reads() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], input=b"one\n", capture_output=True, timeout=60, check=True)
    assert done.stdout == b"before\nspoken: one\nafter\nread \n"
    assert done.stderr == b"printed\nchild read ''\n"


def test_lines_come_one_by_one_until_the_end_and_strange_bytes_do_not_end_them() -> None:
    stream = io.BytesIO("first é\n".encode() + b"second \xff\nlast")

    async def read() -> list[str]:
        return [line async for line in lines(cast("Any", stream))]

    assert anyio.run(read) == ["first é\n", "second �\n", "last"]


def test_a_message_is_written_whole_though_the_pipe_takes_a_part_at_a_time() -> None:
    class Narrow(io.BytesIO):
        def write(self, data: Any) -> int:
            return super().write(bytes(data[:3]))

    stream = Narrow()

    async def write() -> None:
        writer = Writer(cast("Any", stream))
        await writer.write("a long message, é\n")
        await writer.flush()

    anyio.run(write)
    assert stream.getvalue().decode() == "a long message, é\n"
