"""Students that learn on while their world drifts."""
