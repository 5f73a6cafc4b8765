"""Draws results and pages: contact sheets, tiles, captions, tables.

Knows pictures and text; knows nothing about networks.
"""
