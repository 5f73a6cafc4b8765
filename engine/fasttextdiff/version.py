"""What the engine says of itself: its version and what its results are for.

The version is a plain attribute, because an installed Slicer extension has no package metadata.
"""

__version__ = "0.1.0"

DISCLAIMER = "Research use only. Not for diagnosis."
"""Shown with every result and written into it."""
