"""The laboratory: how the bundled model is made. Imports the product `fasttextdiff`, never the other way round.

Not installed into 3D Slicer.
"""
