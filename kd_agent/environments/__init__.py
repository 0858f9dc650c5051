"""From an id to a guarded vector environment."""
