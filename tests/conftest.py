"""What the tests of the harness share."""

from __future__ import annotations

# For the tests of our own plugin, which run pytest inside pytest.
pytest_plugins = ["pytester", "inner_runs"]
