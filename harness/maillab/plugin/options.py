"""The options and marks of the plugin; bad options end the run before any test."""

from __future__ import annotations

import os

import pytest

from maillab.engine import compose, images
from maillab.errors import (
    BadInput,
)
from maillab.suite import shards

_WORKERS_A_CORE = 2


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of maillab."""
    group = parser.getgroup("maillab")
    group.addoption(
        "--postfix",
        default=images.VERSION_DEFAULT,
        metavar="VERSION",
        help=f"Postfix version of the labs: {', '.join(images.SUITES)} "
        f"(default: {images.VERSION_DEFAULT})",
    )
    group.addoption(
        "--withhold",
        default="",
        choices=("", "cures", "faults", "witnesses"),
        help="test the tests: without 'cures' every cure test must fail, without 'faults' every "
        "symptom test, and in both each behaviour or historic test that has one; without "
        "'witnesses' faults are no-ops and each test with one must be void",
    )
    group.addoption("--fresh-labs", action="store_true", help="a new lab for each test")
    group.addoption(
        "--keep-labs", action="store_true", help="keep the lab of a failed test running"
    )
    group.addoption(
        "--pcap", action="store_true", help="record every packet; keep the captures of failed tests"
    )
    group.addoption(
        "--runs",
        default="runs",
        metavar="DIR",
        help="folder for results and failed tests' evidence (default: runs)",
    )
    group.addoption(
        "--shard", default="1/1", metavar="K/N", help="run only the Kth of N parts (default: all)"
    )
    parser.addini(
        "maillab_durations",
        "file of durations that --shard balances by, relative to the root folder",
        default="",
    )
    parser.addini(
        "maillab_answers",
        "file with the steps of the scenarios' cures, which a run on the default version checks; "
        "relative to the root folder",
        default="",
    )


def prepare(config: pytest.Config) -> None:
    """Declare the marks, refuse bad options, and choose how xdist distributes the tests."""
    config.addinivalue_line(
        "markers", "faq(slug, *bullets): the FAQ entry, and the catalogue's bullets, it proves"
    )
    config.addinivalue_line(
        "markers", "topology(name, pool=…): the lab it needs, and addresses other than 198.18/15"
    )
    config.addinivalue_line("markers", "ipv6: is skipped, with the reason, in a lab without IPv6")
    config.addinivalue_line("markers", "heavy: runs only when asked for with -m heavy")
    try:
        images.postfix(config.option.postfix)
        compose.pool_of()
        shards.Shard.parse(config.option.shard)
    except BadInput as error:
        raise pytest.UsageError(str(error)) from error
    # Tests are sorted by topology and each worker starts on its own slice, so few labs are
    # started twice. Idle workers steal from the rest.
    if getattr(config.option, "dist", "no") == "load":
        config.option.dist = "worksteal"


def pytest_report_header(config: pytest.Config) -> str:
    """Return what is being tested, and how to repeat it."""
    withheld = config.option.withhold
    return f"maillab: Postfix {config.option.postfix}" + (withheld and f", {withheld} withheld")


@pytest.hookimpl(tryfirst=True, optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Return two workers per core for ``-n auto``, since mail waits as often as it works.

    PYTEST_XDIST_AUTO_NUM_WORKERS overrides it, see pytest-xdist.
    """
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return _WORKERS_A_CORE * len(os.sched_getaffinity(0))
