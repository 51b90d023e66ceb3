"""A device's link to its fleet: who it is, what it is, when it checks in, and what of the answers it obeys."""
