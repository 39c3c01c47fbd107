"""etexport: a PyTorch model script in, a verified microcontroller firmware out."""

__version__ = "0.1.0"
