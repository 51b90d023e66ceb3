"""Waves, quality, QRS, windows: the same code in training and at the bedside."""
