"""What exists: specs, plugins, the ledger, names. Never imports torch."""
