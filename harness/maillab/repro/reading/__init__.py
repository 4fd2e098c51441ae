"""The reading of a pasted report: lines, their forms, and the entries that they make. Pure."""
