"""The one file that travels: manifest and archive."""
