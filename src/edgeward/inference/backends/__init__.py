"""One adapter per accelerator; the file name is the name in the configuration."""
