"""Updates on the device: the state machine, its journal, its health gate, and what it asks of the running ward."""
