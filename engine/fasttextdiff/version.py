"""The engine's version and the intended use of its results.

The version is a plain attribute because an installed Slicer extension has no package metadata.
"""

__version__ = "0.1.0"

DISCLAIMER = "Research use only. Not for diagnosis."
"""Shown with every result and written into it."""
