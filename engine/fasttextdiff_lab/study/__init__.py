"""Answers the paper's questions: trains and evaluates a grid of systems under equal conditions, and reports it.

Knows systems, data sets and grids; the engine knows nothing of it.
"""
