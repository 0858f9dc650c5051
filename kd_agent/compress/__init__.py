"""Compressors: each file has `compress(graph, observations, **settings)`, a smaller PolicyGraph of the same spaces."""
