"""Work in a process of its own, without the seconds that it takes to import torch anew."""

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


def forked(work: Callable[[], Any], stderr: Path | None = None) -> int:
    """Run `work` in a forked process, which ends with what that returns as its exit code.

    Args:
        work: What to do; a whole number that it returns, or that `sys.exit` is called with, is the exit code.
        stderr: Where its standard error goes; None: to this process's.

    Returns:
        The process id.
    """
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        if stderr:
            sys.stderr = stderr.open("w", buffering=1)
        found = work()
        code = found if isinstance(found, int) else 0
    except SystemExit as done:
        code = int(done.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
