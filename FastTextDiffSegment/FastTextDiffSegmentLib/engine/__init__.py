"""The engine's process seen from Slicer: starting it, requests, exchange of arrays. Knows the protocol, no widgets."""
