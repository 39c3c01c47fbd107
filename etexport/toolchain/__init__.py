"""Compilers, and what they say about the firmware: sizes by part and the bound of the stack."""
