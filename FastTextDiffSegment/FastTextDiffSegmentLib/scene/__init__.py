"""Slicer's scene: volumes, segments, files, views. Knows MRML; knows no widgets and no models."""
