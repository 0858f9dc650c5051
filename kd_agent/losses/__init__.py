"""Losses: each file has `loss(student, teacher, head, softening) -> [B]`, unreduced.

`NEEDS` names what a loss compares beside the action distributions: "layer" (`features["layer"]` of both, `[B, F]`),
"value". `PROJECTS` says that the student's layer comes through a learnt linear map to the teacher's width.
"""
