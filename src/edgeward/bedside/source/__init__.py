"""Where bytes enter: WFDB replay, simulator, TCP."""
