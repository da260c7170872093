"""How fast the live path answers, how much it takes, and what it holds in memory."""
