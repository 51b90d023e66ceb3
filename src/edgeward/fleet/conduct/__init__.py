"""Conducts rollouts: keeps them in the database, gives check-ins their orders, and lets time pass."""
