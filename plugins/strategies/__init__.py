"""Ways to adapt a backbone."""
