"""The version of this distribution, read by the build and by the package root."""

__version__ = "0.1.0"
