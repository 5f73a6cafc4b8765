"""Many images unattended, seen from Slicer. Knows the batch's files and events; knows no widgets."""
