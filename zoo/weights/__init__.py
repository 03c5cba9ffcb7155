"""Bytes you can trust: from a name to a verified local file. Never imports torch."""
