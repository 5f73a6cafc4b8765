"""The engine as a child process of 3D Slicer: JSON lines in and out, arrays in files.

Knows the protocol; knows nothing about Slicer's scene.
"""
