"""What a device and the fleet say to each other: typed, bounded, and free of PHI by type (``exchange.typed``)."""
