"""What the engine and the Slicer module agree on: every rule, name and message that both processes need, written once.

Standard library only, and no import of another package: the module imports these files from the engine beside it, since
another version of the engine may be installed in Slicer's Python. Knows nothing about Qt, Slicer, arrays or models.
"""
