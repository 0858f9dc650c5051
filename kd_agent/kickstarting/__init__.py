"""Students that PPO takes beyond their teacher, who guides them less and less."""
