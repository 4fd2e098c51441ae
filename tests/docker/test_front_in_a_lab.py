"""The front of "published": what it refuses, and what a reset restores. Needs an engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from maillab import BadInput, Connected, FrontHost, UnknownName
from maillab.engine import compose
from maillab.errors import LabError
from maillab.lab import lab as labs
from maillab.lab.lab import Lab
from maillab.lab.pool import Labs
from maillab.site import resources, topology


@pytest.fixture
def lab(some_labs: Labs, request: pytest.FixtureRequest) -> Lab:
    """Return a lab of "published" in its initial state, whose mail is not judged."""
    return some_labs.get(topology.load("published"), request.config.option.postfix)


def front(lab: Lab) -> FrontHost:
    """Return the front."""
    host = lab.hosts["front"]
    assert isinstance(host, FrontHost)
    return host


def client_seen(lab: Lab) -> str:
    """Return the address that the mail server sees of the client's next connection."""
    lab.client.session(front(lab)).close()
    return lab.events(Connected, lab.mail)[-1].client_address


def test_a_reset_makes_the_front_a_nat_that_keeps_addresses_again(lab: Lab) -> None:
    """Neither HAProxy's configuration nor a rule of the packet filter stays."""
    before = (front(lab).network.state(), front(lab).read("/etc/haproxy/haproxy.cfg"))
    front(lab).nat(rewrites_source=True)
    front(lab).balancer("v1")
    assert client_seen(lab) == front(lab).inner

    lab.reset()

    assert (front(lab).network.state(), front(lab).read("/etc/haproxy/haproxy.cfg")) == before
    assert client_seen(lab) == lab.client.address


def test_settings_that_haproxy_refuses_are_errors(lab: Lab) -> None:
    """The error names the file and the line, and the front stays as it was."""
    host = front(lab)

    with pytest.raises(BadInput, match=r"front: HAProxy refuses .*haproxy\.cfg:1\].*'nonsense'"):
        host.configure("nonsense\n")
    with pytest.raises(UnknownName, match=r"unknown PROXY protocol 'v3' \(choose from v1, v2\)"):
        host.balancer("v3")  # type: ignore[arg-type]  # what a user may type

    assert host.version.startswith("3.")
    assert client_seen(lab) == lab.client.address


def test_a_topology_whose_balancer_does_not_start_is_removed(tmp_path: Path) -> None:
    """The error has HAProxy's words and the topology's file; no half a lab is left."""
    text = (resources.compose() / "published.yaml").read_text(encoding="utf-8")
    file = tmp_path / "broken.yaml"
    base = resources.compose() / "base.yaml"
    broken = text.replace("mode tcp", "mod tcp").replace("file: base.yaml", f"file: {base}")
    assert "mod tcp" in broken
    file.write_text(broken)

    words = r"front does not start: .*/etc/haproxy/haproxy\.cfg:5\].*'mod'"
    with pytest.raises(LabError, match=rf"{words}.*{file}") as error:
        labs.start(topology.load(str(file)), "3.10")

    assert "\n" not in str(error.value)
    assert not [lab for lab in compose.projects() if "broken" in lab]
