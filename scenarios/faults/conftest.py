"""What the scenarios of the path's faults share."""

from collections.abc import Iterator

import pytest

from maillab.lab import Lab


@pytest.fixture
def impatient(lab: Lab) -> Lab:
    """A lab whose hosts give up soon."""
    lab.receiver.configure(smtpd_timeout="5s")
    lab.sender.configure(
        smtp_connect_timeout="2s", smtp_data_xfer_timeout="3s", smtp_data_done_timeout="3s"
    )
    return lab


@pytest.fixture
def without_a_trace(request: pytest.FixtureRequest, lab: Lab) -> Iterator[None]:
    """After each fault the network of every host is what it was before; cures stay."""
    if "_cure_" in request.node.name:
        yield
        return
    before = {host.name: host.agent.call("netstate") for host in lab.hosts.values()}
    yield
    after = {host.name: host.agent.call("netstate") for host in lab.hosts.values()}
    assert after == before
