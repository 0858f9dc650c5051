"""`kd-agent follow-drift` as a script; see `--help`."""

import sys

from kd_agent.commands.cli import run

if __name__ == "__main__":
    sys.exit(run("follow-drift", sys.argv[1:]))
