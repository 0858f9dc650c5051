"""Students inside other agents: Gymnasium wrappers, PettingZoo, RLlib and TorchRL (but the first, each an extra)."""
