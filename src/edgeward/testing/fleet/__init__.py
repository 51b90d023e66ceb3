"""A whole fleet in one process: simulated devices with the real update machine, against a real server."""
