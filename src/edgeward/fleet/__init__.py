"""The hospital's server. Nothing is built here yet; the floor is kept so that the contract names it."""
