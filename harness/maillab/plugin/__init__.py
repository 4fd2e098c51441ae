"""The pytest plugin: options, selection of tests, the ``lab`` fixture, and the verdicts.

pytest finds hooks and fixtures in this module (entry point ``maillab.plugin``). Each file
of the package has one concern; this one only names their hooks.
"""

import pytest

from maillab.plugin import fixture, options
from maillab.plugin.fixture import lab, pytest_unconfigure
from maillab.plugin.options import (
    pytest_addoption,
    pytest_report_header,
    pytest_xdist_auto_num_workers,
)
from maillab.plugin.selection import pytest_collection_modifyitems
from maillab.plugin.tally import pytest_sessionstart
from maillab.plugin.verdicts import (
    pytest_pyfunc_call,
    pytest_report_teststatus,
    pytest_runtest_makereport,
)

__all__ = [
    "lab",
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_pyfunc_call",
    "pytest_report_header",
    "pytest_report_teststatus",
    "pytest_runtest_makereport",
    "pytest_sessionstart",
    "pytest_unconfigure",
    "pytest_xdist_auto_num_workers",
]


def pytest_configure(config: pytest.Config) -> None:
    """Refuse bad options before the run gets its labs."""
    options.prepare(config)
    fixture.prepare(config)
