"""Signed zones, a validating resolver and MTA-STS beside mail hosts. Needs an engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from maillab.engine import compose
from maillab.errors import BadInput, LabError
from maillab.faults import SignaturesExpired
from maillab.lab.lab import Lab
from maillab.lab.mail_lab import MailLab
from maillab.lab.pool import Labs
from maillab.site import topology

SITE = topology.load("secure-transport")
UNSIGNED = r"/etc/maillab/filters-setup\.sh failed: /etc/nsd/lab\.zone: a zone does not sign: "


@pytest.fixture
def site(some_labs: Labs, request: pytest.FixtureRequest) -> Lab:
    """Return a lab of "secure-transport" in its initial state."""
    return some_labs.get(SITE, request.config.option.postfix)


def digests(lab: Lab) -> list[object]:
    """Return the files and processes of the containers with names."""
    assert lab.sender.filters
    assert lab.zoo.filters
    channels = [lab.sender.filters, lab.zoo.filters, lab.sender.nameserver.channel]
    return [channel.call("digest") for channel in channels]


def test_a_reset_restores_zones_policies_and_the_resolver(site: Lab) -> None:
    """Published records, signatures, a policy, and what unbound remembers."""
    site.reset()
    before = digests(site)

    site.zoo.publish("_25._tcp.mx.dane.example", "TLSA", "3 1 1 " + 64 * "0")
    site.zoo.publish("no-tlsa.example", "DS")
    site.zoo.filter("policyhost").write("/etc/mta-sts/dane.example.txt", "version: STSv1\n")
    site.sender.filter("unbound").stop()
    messy = digests(site)
    site.reset()

    assert all(was != now for was, now in zip(before, messy, strict=True))
    assert digests(site) == before
    mail = site.sender.send("alice@dane.example")
    site.settle(mail)
    assert mail.delivered_to(site.zoo, mailbox="alice")


def test_a_zone_that_is_not_signed_cannot_expire(site: Lab) -> None:
    """The message names the zones that can."""
    known = r"no such signed zone \(choose from ., both.example, dane"
    with (
        pytest.raises(BadInput, match=known),
        site.sender.faulty(SignaturesExpired("plain.example")),
    ):
        pass


@pytest.mark.parametrize(
    ("right", "wrong", "why"),
    [
        (
            "$$SIGN expired",
            "$$SIGN exprd",
            rf"{UNSIGNED}\$ORIGIN signature-expired\.example\.: unknown \$SIGN 'exprd'",
        ),
        (
            "TLSA  3 1 1 8cb0",
            "TLSA  3 1 1 xyz0",
            rf"{UNSIGNED}ldns-signzone ",
        ),
        (
            'module-config: "validator iterator"',
            'module-config: "validator interior"',
            r"unbound does not listen: .*interior.*; see /etc/unbound/unbound\.conf",
        ),
        (
            "mta-sts.sts.example mta-sts.sts-mx",
            "mta-sts..sts.example, mta-sts.sts-mx",
            r"/etc/maillab/filters-setup\.sh failed: ",
        ),
    ],
    ids=["unknown word", "bad record", "resolver", "certificate"],
)
def test_names_that_do_not_work_are_one_line(
    tmp_path: Path, right: str, wrong: str, why: str
) -> None:
    """The line names the part, its file and the topology; nothing of the lab is left."""
    text = SITE.path.read_text()
    assert right in text
    file = tmp_path / "broken.yaml"
    base = f"file: {SITE.path.parent / 'base.yaml'}"
    file.write_text(text.replace(right, wrong).replace("file: base.yaml", base))

    with pytest.raises(LabError, match=rf"^broken did not start: \S+-names: {why}") as raised:
        MailLab(str(file)).start()

    assert str(raised.value).endswith(f"; correct it in {file}")
    assert "\n" not in str(raised.value)
    assert not [lab for lab in compose.projects().values() if lab.file == file]
