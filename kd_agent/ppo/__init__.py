"""Whatever is trained by PPO alone: teachers, and the control."""
