"""Nothing that only some systems have is needed: the package imports and distils without it."""

import subprocess
import sys
from pathlib import Path

from samples import PROBES, TINY, Agent, flags

ABSENT = ("fcntl", "resource", "termios", "pwd", "grp")
"""Modules of the standard library that Windows has not."""

_PROGRAM = """
import os, sys, pkgutil, importlib, signal
for name in {absent}:
    sys.modules[name] = None
# Nor has Windows these.
for name in ("O_DIRECTORY", "O_NOFOLLOW", "fork", "getuid"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGALRM", "SIGKILL", "SIGHUP", "alarm", "setitimer"):
    if hasattr(signal, name):
        delattr(signal, name)
import kd_agent
for module in pkgutil.walk_packages(kd_agent.__path__, "kd_agent."):
    # Plug-ins of other worlds import these.
    if not module.name.startswith("kd_agent.adapters.") and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from kd_agent.commands.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_it_imports_distils_and_resumes_where_half_of_a_unix_is_missing(
    agents: dict[str, Agent], expected: bytes, tmp_path: Path
) -> None:
    given = {**TINY, "env": PROBES["Discrete"], "teacher": str(agents["Discrete"].path), "out": "run"}
    command = [sys.executable, "-W", "ignore", "-c", _PROGRAM.format(absent=ABSENT), "distill", *flags(given)]
    # The second time the lock must have been let go of.
    for more in ([], ["--resume"]):
        done = subprocess.run([*command, *more], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "run" / "student.safetensors").read_bytes() == expected
