"""Learners: how a student is fitted to labelled states."""

from kd_agent.learners._multitask import fit_together, tie, to_graph

__all__ = ["fit_together", "tie", "to_graph"]
