"""`kd-agent zoo-sweep` as a script; see `--help`."""

import sys

from kd_agent.commands.cli import run

if __name__ == "__main__":
    sys.exit(run("zoo-sweep", sys.argv[1:]))
