"""The rules, names and messages that the engine and the Slicer module share, written once.

Standard library only, and no imports from other packages of the engine: the module imports these files from its own
extension, because Slicer's Python may have another version of the engine. Knows nothing about Qt, Slicer, arrays or
models.
"""
