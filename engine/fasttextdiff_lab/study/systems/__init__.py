"""The systems that studies compare, each in a file of its own, and their registry.

Knows networks and where they were published; knows nothing about data sets, grids or reports.
"""
