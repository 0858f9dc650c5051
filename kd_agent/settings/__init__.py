"""What a command can be told: one set of names for YAML, flags and keyword arguments, and one validator."""
