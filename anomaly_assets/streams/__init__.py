"""What is observed: the catalogue of streams, windows, and values from readings."""
