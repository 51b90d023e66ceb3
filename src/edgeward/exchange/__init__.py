"""What a device and the fleet say to each other. Nothing is built here yet."""
