"""Errors, units, the clock port and every ceiling."""
