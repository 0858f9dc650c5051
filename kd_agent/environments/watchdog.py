"""Finding a step that hangs: a thread that watches how long an environment has not answered.

What waits in Python is interrupted and becomes an error of one line. What hangs in machine code cannot be interrupted
from within: then the line is printed and the process ends, so that somebody can go on with what it had saved. Code that
keeps Python's global lock lets no thread of Python run, this one neither: there `faulthandler` ends the process, and
says where it was.
"""

import _thread
import atexit
import faulthandler
import os
import signal
import sys
import threading
import time

GRACE = 2.0
"""Seconds after the interruption, before the process is ended."""
LAST_RESORT = 30.0
"""Seconds beyond the timeout after which `faulthandler` acts: no healthy code keeps the global lock for so long."""
_EXIT_CODE = 2  # that of every error a user can mend
_POLLS = 10
"""Looks at the clock within one timeout."""


class Watchdog:
    """Watches calls that must come back in time; one for all environments of a vector.

    Args:
        timeout: Seconds that a call may take.

    Attributes:
        expired: Whether the present call took too long.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.expired = False
        self._begun: float | None = None
        self._what = ""
        self._stopped = False
        self._main = threading.get_ident()
        atexit.register(self.stop)  # a process that ends takes its time, and is not hanging
        threading.Thread(target=self._watch, name="kd_agent watchdog", daemon=True).start()

    def begin(self, what: str) -> None:
        """A call begins; `what` says which, should it not come back."""
        self._what = what
        self.expired = False
        self._begun = time.monotonic()

    def end(self) -> None:
        """It has come back."""
        self._begun = None

    def stop(self) -> None:
        """Nothing is left to watch."""
        self._stopped = True
        faulthandler.cancel_dump_traceback_later()

    def _watch(self) -> None:
        while not self._stopped:
            time.sleep(self.timeout / _POLLS)
            begun = self._begun
            if self._stopped:
                break
            # A dead man's switch: it goes off where this thread does not come round to setting it anew.
            faulthandler.dump_traceback_later(self.timeout + LAST_RESORT, exit=True)
            if begun is None or time.monotonic() - begun < self.timeout:
                continue
            self.expired = True
            self._interrupt()
            time.sleep(GRACE)
            if self._begun == begun:
                print(f"kd-agent: error: {self._what} does not come back; stopped", file=sys.stderr, flush=True)
                os._exit(_EXIT_CODE)

    def _interrupt(self) -> None:
        """Raise KeyboardInterrupt in the thread that waits, also where it sleeps."""
        if hasattr(signal, "pthread_kill") and self._main == threading.main_thread().ident:
            signal.pthread_kill(self._main, signal.SIGINT)
        else:
            _thread.interrupt_main()
