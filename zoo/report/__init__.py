"""What a person reads: cards and reports."""
