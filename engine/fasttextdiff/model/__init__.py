"""The networks, and the model folder.

Knows tensors and weights; knows nothing about volumes, image files or Slicer.
"""
