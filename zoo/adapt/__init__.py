"""Compose a backbone with a strategy, and learn."""
