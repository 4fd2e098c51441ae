"""Fixtures for the scenarios of network path faults."""

from collections.abc import Iterator

import pytest

from maillab import Lab


@pytest.fixture
def impatient(lab: Lab) -> Lab:
    """Shorten the hosts' timeouts."""
    lab.receiver.configure(smtpd_timeout="5s")
    lab.sender.configure(
        smtp_connect_timeout="2s", smtp_data_xfer_timeout="3s", smtp_data_done_timeout="3s"
    )
    return lab


@pytest.fixture
def without_a_trace(request: pytest.FixtureRequest, lab: Lab) -> Iterator[None]:
    """Check that every host's network is unchanged after each fault; cures stay."""
    if "_cure_" in request.node.name:
        yield
        return
    before = {host.name: host.network.state() for host in lab.hosts.values()}
    yield
    after = {host.name: host.network.state() for host in lab.hosts.values()}
    assert after == before
