"""Batches seen from Slicer. Knows their events and files; knows no widgets."""
