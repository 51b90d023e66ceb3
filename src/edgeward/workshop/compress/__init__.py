"""Smaller and faster models of the same function: INT8 quantisation, structured pruning."""
