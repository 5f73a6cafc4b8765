"""Images, and how their slices are presented to the model.

Knows voxels, geometry and intensities; knows nothing about files, networks or findings.
"""
