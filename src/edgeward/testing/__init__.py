"""Public test support: simulated sources, in-memory files, fake clocks, contract suites."""
