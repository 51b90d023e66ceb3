"""Verbs, exit codes and settings: the only place that reads TOML, the environment and arguments."""
