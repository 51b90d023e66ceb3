"""Rollouts: in which order devices take a bundle, when the next ones may, and when everything stops. Pure."""
