"""Whatever is trained by PPO: teachers and the control alone, students under a teacher that fades."""
