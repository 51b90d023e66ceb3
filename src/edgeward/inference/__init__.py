"""Runs a bundle: the backend port, the engine, its process."""
