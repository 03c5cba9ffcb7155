"""What follows a fit and changes nothing."""
