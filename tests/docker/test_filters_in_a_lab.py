"""Filters beside mail hosts: restored by a reset, and never missing in silence. Needs an engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from maillab.engine import compose
from maillab.errors import LabError
from maillab.lab.lab import Lab
from maillab.lab.mail_lab import MailLab
from maillab.lab.pool import Labs
from maillab.mail.maillog import Event
from maillab.site import topology

SITE = topology.load("authenticated")


@pytest.fixture
def site(some_labs: Labs, request: pytest.FixtureRequest) -> Lab:
    """Return a lab of "authenticated" in its initial state."""
    return some_labs.get(SITE, request.config.option.postfix)


def digests(lab: Lab) -> dict[str, object]:
    """Return the files and processes of each container with filters, and the zones."""
    hosts = [lab.sender, lab.forwarder, lab.receiver]
    found: dict[str, object] = {
        host.name: host.filters.call("digest") for host in hosts if host.filters
    }
    return {**found, "dns": lab.sender.nameserver.channel.call("digest")}


def greylisted(lab: Lab) -> int:
    """Send a message to a receiver that asks postgrey(8); return the code of the reply."""
    lab.receiver.filter("postgrey").start()
    lab.receiver.configure(
        smtpd_milters="", smtpd_recipient_restrictions="check_policy_service inet:127.0.0.1:10023"
    )
    return lab.other.smtp("alice@example.net", server=lab.receiver).submission.code


def test_a_reset_restores_filters_and_names(site: Lab) -> None:
    """Configuration, processes, databases, published records and the clock."""
    site.reset()
    before = digests(site)

    site.clock.advance(hours=4)
    assert greylisted(site) == 450
    site.receiver.filter("authcheck").configure(Unauthenticated="accept")
    site.sender.filter("opendkim").stop()
    site.forwarder.filter("postsrsd").write("/etc/left", "left")
    site.sender.publish("example.com", "TXT", "v=spf1 +all")
    site.sender.publish("new.example", "A", "198.18.0.99")
    messy = digests(site)
    site.reset()

    assert all(messy[name] != before[name] for name in before)
    assert digests(site) == before
    # The database of the greylist is empty, too.
    assert greylisted(site) == 450
    site.reset()
    mail = site.sender.send("alice@example.net")
    site.settle(mail)
    assert mail.delivered_to(site.receiver, mailbox="alice")
    (line,) = [e.text for e in site.events(Event, site.receiver) if e.program == "authcheck"]
    assert "spf=pass smtp.mailfrom=example.com; dkim=pass" in line


def processes(lab: Lab) -> list[int]:
    """Return the processes of the sender's opendkim; asking for them does not use the filter."""
    assert lab.sender.filters
    pids: list[int] = lab.sender.filters.call("part_pids", name="opendkim")["pids"]
    return pids


def test_a_reset_restarts_only_filters_that_were_used(site: Lab) -> None:
    """Unused filters keep their processes."""
    site.reset()
    before = processes(site)
    site.reset()
    unused = processes(site)
    site.sender.filter("opendkim").run("true")
    site.reset()

    assert before
    assert unused == before
    assert set(processes(site)).isdisjoint(before)


def test_a_filter_says_why_it_does_not_start(site: Lab) -> None:
    """The error has the filter's own words, and names its file."""
    opendkim = site.sender.filter("opendkim")
    opendkim.stop()
    opendkim.write("/etc/opendkim.conf", "Mode x\nSocket inet:8891@127.0.0.1\n")

    with pytest.raises(LabError, match=r"opendkim does not listen: .*; see /etc/opendkim.conf"):
        opendkim.start()


@pytest.mark.parametrize(
    ("right", "wrong", "why"),
    [
        (
            "KeyFile /etc/dkimkeys/mail.private",
            "KeyFile /etc/dkimkeys/wrong.private",
            r"opendkim does not listen: .*wrong\.private.*; see /etc/opendkim\.conf",
        ),
        (
            "FILTERS: postsrsd",
            "FILTERS: postsrs",
            r"unknown filter 'postsrs' \(choose from authcheck, ",
        ),
        (
            "opendkim-genkey --bits=2048",
            "opendkim-genkey --bits=none",
            r"/etc/maillab/filters-setup\.sh failed: ",
        ),
    ],
    ids=["no key", "unknown", "setup"],
)
def test_a_lab_whose_filter_does_not_start_is_one_line(
    tmp_path: Path, right: str, wrong: str, why: str
) -> None:
    """The line names the filter, its file and the topology; nothing of the lab is left."""
    text = SITE.path.read_text()
    assert right in text
    file = tmp_path / "broken.yaml"
    base = f"file: {SITE.path.parent / 'base.yaml'}"
    file.write_text(text.replace(right, wrong).replace("file: base.yaml", base))

    with pytest.raises(LabError, match=rf"^broken did not start: \S+-filters: {why}") as raised:
        MailLab(str(file)).start()

    assert str(raised.value).endswith(f"; correct it in {file}")
    assert "\n" not in str(raised.value)
    assert not [lab for lab in compose.projects().values() if lab.file == file]
