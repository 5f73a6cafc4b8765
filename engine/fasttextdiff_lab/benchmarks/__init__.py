"""Measures speed and memory of a model, each figure with a reference measured in the same process."""
