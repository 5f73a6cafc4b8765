"""Many images unattended: which cases there are, and how they are worked through."""
