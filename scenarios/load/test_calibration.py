"""The instrument is right: what a server throws away after its 250 is named, and nothing else."""

import pytest

from maillab.faults import SmtpStage
from maillab.lab import Lab


@pytest.mark.topology("standalone")
def test_every_hundredth_message_is_dropped_and_the_ledger_names_those(lab: Lab) -> None:
    """A server that acknowledges and forgets is found out, message by message."""
    forgets = SmtpStage("end of data", reply="250 2.0.0 Ok: forgotten", every=100)
    lab.mail.configure(smtpd_client_connection_count_limit="0")

    with lab.mail.faulty(forgets):
        report = lab.load(lab.mail, lab.client, sessions=20, messages=400)
    lab.drain()
    lab.expects(lost=4, because="the server says 250 to every hundredth and stores nothing")
    verdict = lab.accounts()

    token = {one.number: one for one in report.messages}
    forgotten = {number for number, one in token.items() if one.text.endswith("forgotten")}
    assert len(forgotten) == 4
    assert report.outcomes == {"acknowledged": 400}
    assert {
        int(found.message_id.rpartition("-")[2].partition("@")[0]) for found in verdict.findings
    } == forgotten
    assert verdict.lost == 4
