"""A report of a model on a labelled folder: everything measured in one pass, as numbers and as a page."""
