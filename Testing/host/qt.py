"""`import qt` as in Slicer: PySide6's classes with PythonQt's conventions. Knows nothing about MRML."""

from slicerhost import pythonqt

globals().update(pythonqt.exportedNames())
