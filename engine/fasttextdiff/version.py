"""The engine's version: a plain attribute, because an installed Slicer extension has no package metadata."""

__version__ = "0.1.0"
