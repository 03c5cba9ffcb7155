"""A network on an accelerator."""
