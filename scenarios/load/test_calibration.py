"""Calibration: the ledger names exactly the messages that a server drops after its 250."""

import pytest

from maillab import Lab
from maillab.faults import SmtpStage


@pytest.mark.topology("standalone")
def test_every_hundredth_message_is_dropped_and_the_ledger_names_those(lab: Lab) -> None:
    """The ledger finds each message that a server acknowledged and dropped."""
    forgets = SmtpStage("end of data", reply="250 2.0.0 Ok: forgotten", every=100)
    lab.mail.configure(smtpd_client_connection_count_limit="0")

    with lab.mail.faulty(forgets):
        report = lab.load(lab.mail, lab.client, sessions=20, messages=400)
    lab.drain()
    lab.expects(lost=4, because="the server accepts every hundredth message and does not store it")
    verdict = lab.verdict()

    token = {attempted.number: attempted for attempted in report.messages}
    forgotten = {
        number for number, attempted in token.items() if attempted.text.endswith("forgotten")
    }
    assert len(forgotten) == 4
    assert report.outcomes == {"acknowledged": 400}
    assert {
        int(found.message_id.rpartition("-")[2].partition("@")[0]) for found in verdict.findings
    } == forgotten
    assert verdict.lost == 4
