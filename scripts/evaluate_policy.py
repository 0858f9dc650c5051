"""`kd-agent evaluate` as a script; see `--help`."""

import sys

from kd_agent.commands.cli import run

if __name__ == "__main__":
    sys.exit(run("evaluate", sys.argv[1:]))
