"""Draws results and pages: contact sheets, tiles, captions, tables.

Knows pictures and text; knows no networks.
"""
