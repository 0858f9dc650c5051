"""`kd-agent serve` as a script; see `--help`."""

import sys

from kd_agent.commands.cli import run

if __name__ == "__main__":
    sys.exit(run("serve", sys.argv[1:]))
