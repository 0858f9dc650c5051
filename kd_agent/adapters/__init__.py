"""Students inside other agents: Gymnasium wrappers, and modules of RLlib and TorchRL (each an extra of its own)."""
