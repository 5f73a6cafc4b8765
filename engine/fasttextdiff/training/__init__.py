"""Training of the compact model. Nothing outside this package, but the command line, knows it."""
