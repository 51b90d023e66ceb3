"""Measures a whole road against a data set by the field's standard protocol."""
