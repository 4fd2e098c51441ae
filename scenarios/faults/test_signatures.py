"""Zones whose signatures have expired, as a validating resolver sees them."""

from __future__ import annotations

import pytest

from maillab import Lab, TlsSession
from maillab.faults import SignaturesExpired

pytestmark = pytest.mark.topology("secure-transport")


@pytest.mark.parametrize("zone", ["dane.example", "."], ids=["own", "root"])
def test_symptom_names_with_expired_signatures_do_not_resolve(lab: Lab, zone: str) -> None:
    """Mail waits whatever the level of security, and goes once the zone is signed again."""
    lab.sender.configure(smtp_tls_security_level="may")

    with lab.sender.faulty(SignaturesExpired(zone)):
        mail = lab.sender.send(to="alice@dane.example")
        lab.settle(mail)
        waits = mail.deferred(dsn="4.4.3", saying="name=dane.example type=MX").now()
    lab.sender.flush()
    lab.settle(mail)

    assert waits
    assert mail.delivered_to(lab.zoo, mailbox="alice")
    assert lab.events(TlsSession, lab.sender)


def test_symptom_other_zones_resolve_all_the_same(lab: Lab) -> None:
    """Only the zone that was not signed again is concerned."""
    with lab.sender.faulty(SignaturesExpired("no-tlsa.example")):
        mail = lab.sender.send(to="alice@dane.example")
        late = lab.sender.send(to="alice@no-tlsa.example")
        lab.settle()

    assert mail.delivered_to(lab.zoo, mailbox="alice")
    assert late.deferred(dsn="4.4.3")
