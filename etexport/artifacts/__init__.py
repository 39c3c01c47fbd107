"""The files between stages."""
