"""The load generator: its plan, the running load, its report and its plot."""
