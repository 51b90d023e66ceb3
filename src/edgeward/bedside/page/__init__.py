"""The bedside page: server-rendered HTML and server-sent events."""
