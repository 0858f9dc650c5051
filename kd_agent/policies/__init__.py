"""A policy as a program over named arrays: what it is, its file, and what runs it (NumPy; torch where asked for)."""
