"""`kd-agent record` as a script; see `--help`."""

import sys

from kd_agent.commands.cli import run

if __name__ == "__main__":
    sys.exit(run("record", sys.argv[1:]))
