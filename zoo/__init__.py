"""Transfer learning by composition: any backbone, any adaptation strategy, on real input."""

__version__ = "0.1.0"
