"""Where verdicts and advisories leave."""
