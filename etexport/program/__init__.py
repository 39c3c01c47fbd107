"""The program: its data (`model`), its legal form (`verify`), and its file format (`pte`)."""
