"""Which bundle is in charge of beds that are watched, which one stays warm behind it, which one runs in its shadow."""
