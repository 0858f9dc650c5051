"""Whatever is trained by PPO."""
