"""The engine's process seen from Slicer: start, talk, exchange arrays. Knows the protocol; knows no widgets."""
