"""Samples in, tensors out."""
