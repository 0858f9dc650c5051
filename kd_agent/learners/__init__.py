"""Learners: how a student is fitted to labelled states."""
