"""The networks, and the folder that a model is kept in.

Knows tensors and weights; knows no volumes, no files of images and no Slicer.
"""
