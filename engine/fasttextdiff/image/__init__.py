"""What an image is and how its slices are shown to the model.

Knows voxels, geometry and intensities; knows no files, no networks and no findings.
"""
