"""Medication domain logic. Nothing is built here yet."""
