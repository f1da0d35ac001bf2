"""A Run folder to figures, one self-contained page, and other people's formats."""
