"""Edgeward: clinical AI from training to the bedside, and kept running there."""

__version__ = "0.1.0"
