"""What kernel folders are written with, and how they are found. Names no kernel's header."""
