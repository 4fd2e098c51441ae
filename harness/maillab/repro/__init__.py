"""A reported problem, tried in a lab: the report is read, planned for and played."""
