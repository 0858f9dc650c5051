"""Losses: each file has `loss(student, teacher, head, softening) -> [B]`, unreduced."""
