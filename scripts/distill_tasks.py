"""`kd-agent distill-tasks` as a script; see `--help`."""

import sys

from kd_agent.commands.cli import run

if __name__ == "__main__":
    sys.exit(run("distill-tasks", sys.argv[1:]))
