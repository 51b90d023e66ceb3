"""The server's REST interface: what devices call (``device``) and what people and programs call (``/api/v1``)."""
