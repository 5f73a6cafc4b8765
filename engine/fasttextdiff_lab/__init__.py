"""The laboratory: how the bundled model is made. It imports the product `fasttextdiff`, never vice versa.

Not installed into 3D Slicer.
"""
