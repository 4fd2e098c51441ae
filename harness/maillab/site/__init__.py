"""A lab on paper: its topology and its main.cf files, read from the Compose files."""
