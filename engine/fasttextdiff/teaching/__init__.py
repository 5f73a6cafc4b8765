"""Teaches the model on the spot: strokes correct one slice, a few slices with masks teach a finding.

Knows the networks and arrays of single slices; knows nothing about volumes on disk, or training from scratch.
"""
