"""Reads images and writes results, in every format.

Knows files; knows nothing about networks.
"""
