"""Where models are made: dataset, train, export, compress, verify, pack."""
