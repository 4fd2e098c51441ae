"""What the tests of the harness share."""

from __future__ import annotations

# Runs of pytest inside pytest, and the command line with labs that are made up.
pytest_plugins = ["pytester", "inner_runs", "cli_calls"]
