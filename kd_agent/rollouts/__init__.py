"""The only place that steps environments."""
