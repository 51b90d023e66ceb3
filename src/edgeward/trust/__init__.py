"""A thin wrapper of python-tuf: roles, publish, fetch. No cryptography of our own."""
