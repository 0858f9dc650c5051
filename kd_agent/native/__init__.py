"""A policy in machine code, from the generated C."""
