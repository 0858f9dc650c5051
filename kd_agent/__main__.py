"""`python -m kd_agent COMMAND ...`, as the command `kd-agent`."""

import sys

from kd_agent.commands.cli import main

sys.exit(main())
