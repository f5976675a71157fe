"""What learns from its own attempts while it trains."""
