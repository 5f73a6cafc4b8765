"""Scores a model on labelled data: data sets, metrics, calibration, reports.

Knows truth; trains nothing.
"""
