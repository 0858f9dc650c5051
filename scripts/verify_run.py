"""`kd-agent verify` as a script; see `--help`."""

import sys

from kd_agent.commands.cli import run

if __name__ == "__main__":
    sys.exit(run("verify", sys.argv[1:]))
