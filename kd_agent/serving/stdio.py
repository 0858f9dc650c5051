"""The process's standard input and output as the protocol's alone, for the SDK's transport.

The SDK's own streams hand work to a thread and wait for it three times a call, which then takes about one and a half
times as long. Here a thread of its own reads, and what is written goes to the pipe at once.
"""

import asyncio
import os
import select
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO


@contextmanager
def claimed() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Input and output of the protocol; meanwhile who reads gets nothing, and who prints prints to standard error.

    So an environment that prints does not speak to the client.
    """
    sys.stdout.flush()
    incoming, outgoing = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    try:
        # Unclosed, because a thread may wait for the next line still.
        yield os.fdopen(incoming, "rb", closefd=False), os.fdopen(outgoing, "wb", buffering=0, closefd=False)
    finally:
        os.dup2(incoming, 0)
        os.dup2(outgoing, 1)


async def lines(stream: BinaryIO) -> AsyncIterator[str]:
    """The lines of a stream as they come, until it ends.

    Args:
        stream: What a thread reads, which does not keep the process from ending.
    """
    loop = asyncio.get_running_loop()
    waiting: asyncio.Queue[bytes] = asyncio.Queue()

    def read() -> None:
        line = b"begun"
        while line:
            line = stream.readline()
            loop.call_soon_threadsafe(waiting.put_nowait, line)

    threading.Thread(target=read, name="kd_agent standard input", daemon=True).start()
    line = await waiting.get()
    while line:
        yield line.decode("utf-8", "replace")
        line = await waiting.get()


class Writer:
    """What the SDK writes its messages to.

    Args:
        stream: The pipe, unbuffered.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    async def write(self, text: str) -> None:
        """Write a message, all of it: a pipe may take a part at a time; to nobody where the client reads no more."""
        left = memoryview(text.encode())
        with suppress(BrokenPipeError):
            while left:
                left = left[self._stream.write(left) :]

    def is_heard(self) -> bool:
        """Whether somebody holds the other end still."""
        states = select.poll()
        states.register(self._stream.fileno(), 0)
        return not states.poll(0)

    async def flush(self) -> None:
        """Nothing is held back."""
