"""Segments many images unattended: finds the cases and runs them."""
