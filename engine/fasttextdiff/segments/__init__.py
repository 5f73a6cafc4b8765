"""Segments of findings: codes, colours, names and tags.

Knows terms; knows nothing about files or networks.
"""
