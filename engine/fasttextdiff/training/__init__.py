"""Training of the compact model. Only the command line uses this package."""
