"""Parts of a program that a backend compiles and runs: they leave it as calls, and come back as operators."""

from etexport.delegate.library import library_for
from etexport.delegate.load import load_backends
from etexport.delegate.partition import delegated

__all__ = ["delegated", "library_for", "load_backends"]
