"""What the pages ask the tables; sums are made there or in numpy, never in the browser."""
