"""Shows a whole migration on one machine: ``python -m demo``."""
