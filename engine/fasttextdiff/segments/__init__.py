"""What a finding becomes as a segment: codes, colours, names and tags.

Knows terms; knows no files and no networks.
"""
