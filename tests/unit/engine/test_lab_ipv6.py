"""Labs without IPv6: where the engine's kernel has none, and where the user turns it off."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path

import pytest

from maillab.engine import compose, images
from maillab.errors import BadInput, LabError
from maillab.site.topology import Topology

SITE = Topology("standalone", Path("standalone.yaml"), "")
# runc's words, as the engine passes them on.
NO_SUCH_PARAMETER = (
    "OCI runtime create failed: runc create failed: unable to start container process: error "
    "during container init: open /proc/sys/net/ipv6/conf/all/disable_ipv6: no such file"
)
OTHER = "net.ipv4.ip_default_ttl=64"


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, str]]:
    """Record the variables of each start; the engine refuses to turn IPv6 on."""
    tried: list[Mapping[str, str]] = []

    class Refusing:
        def __init__(self, _: str, file: object = None, variables: object = None) -> None:
            assert file
            assert isinstance(variables, dict)
            self.variables = variables

        def start(self) -> None:
            tried.append(self.variables)
            if "IPV6_SYSCTL" not in self.variables:
                raise LabError(NO_SUCH_PARAMETER)

        def stop(self) -> None:
            pass

    monkeypatch.delenv("MAILLAB_IPV6", raising=False)
    monkeypatch.setattr(compose, "LabCompose", Refusing)
    monkeypatch.setattr(compose, "_kernel_lacks_ipv6", False)
    monkeypatch.setattr(compose, "free_nets", lambda _: iter(["198.18.7"]))
    monkeypatch.setattr(compose, "pool_of", lambda _: ipaddress.IPv4Network("198.18.0.0/15"))
    monkeypatch.setattr(images, "needed", lambda *_: [])
    return tried


def test_a_kernel_without_ipv6_has_labs_of_ipv4(starts: list[Mapping[str, str]]) -> None:
    """The first start fails; from then on no lab of this process asks for IPv6."""
    for _ in range(2):
        assert compose.up(SITE, "3.10").net == "198.18.7"

    assert [variables.get("IPV6_SYSCTL") for variables in starts] == [None, OTHER, OTHER]
    assert starts[1]["IPV6_FORWARDING_SYSCTL"] == OTHER
    assert compose.no_ipv6() == "the kernel of the engine's machine has no IPv6"


def test_ipv6_may_be_unwanted(
    starts: list[Mapping[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAILLAB_IPV6", "off")

    compose.up(SITE, "3.10")

    assert [variables.get("IPV6_SYSCTL") for variables in starts] == [OTHER]
    assert compose.no_ipv6() == "MAILLAB_IPV6 is off"


def test_another_word_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILLAB_IPV6", "no")

    with pytest.raises(BadInput, match="MAILLAB_IPV6 must be on or off, not 'no'"):
        compose.no_ipv6()
