"""Servers of tables in a lab: restored by a reset, never missing in silence. Needs an engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from maillab.engine import compose
from maillab.engine.client import connect
from maillab.errors import BadInput, CommandFailed, LabError, UnknownName
from maillab.faults import HostCrashed, TableDown, TablePassword
from maillab.hosts.tables import SERVERS, TablesHost
from maillab.lab.lab import Lab
from maillab.lab.mail_lab import MailLab
from maillab.lab.pool import Labs
from maillab.site import topology

SITE = topology.load("hosting")
ALICE = "alice@example.com"


@pytest.fixture
def lab(some_labs: Labs, request: pytest.FixtureRequest) -> Lab:
    """Return a lab of "hosting" in its initial state, whose mail is not judged."""
    return some_labs.get(SITE, request.config.option.postfix)


def tables(lab: Lab) -> TablesHost:
    """Return the host with the servers of tables."""
    (host,) = lab.table_hosts
    return host


def arrives(lab: Lab, to: str = ALICE) -> bool:
    """Return True if mail is delivered to alice."""
    mail = lab.client.smtp(to, server=lab.mail)
    lab.settle(mail)
    return bool(mail.delivered_to(lab.mailbox, mailbox=ALICE))


def test_a_reset_restores_rows_settings_and_processes(lab: Lab) -> None:
    """Rows of every server, one that was planted without a verb, and a password."""
    host = tables(lab)
    for name in SERVERS:
        host.server(name).start()
    before = host.channel.call("digest")
    for name in SERVERS:
        host.server(name).alias("left@example.com", ALICE)
    host.server("postgresql").password("another")
    messy = host.channel.call("digest")
    lab.reset()
    host.server("mariadb").start()
    host.server("openldap").start()
    after = host.channel.call("digest")

    for name in SERVERS:
        assert "left@example.com" in messy["paths"][f"rows of {name}"]
    assert after["paths"] == before["paths"]
    assert arrives(lab)


def test_a_row_that_another_program_planted_is_found(lab: Lab) -> None:
    """No verb of the harness wrote it; only the log shows it."""
    lab.reset()
    host = tables(lab)
    plant = "INSERT INTO aliases VALUES ('left@example.com', 'alice@example.com')"
    row = ["su", "postgres", "-c", f'psql -q -c "{plant}" mail']
    done = connect().containers.get(host.channel.container).exec_run(row)
    assert done.exit_code == 0, done.output

    lab.reset()

    assert "left@example.com" not in host.channel.call("digest")["paths"]["rows of postgresql"]


def test_lookups_leave_a_server_running(lab: Lab) -> None:
    """A reset costs no start of a server then."""
    lab.reset()
    before = tables(lab).channel.call("part_pids", name="postgresql")["pids"][0]
    assert arrives(lab)
    lab.conclude()
    lab.reset()

    assert tables(lab).channel.call("part_pids", name="postgresql")["pids"][0] == before


def test_rows_survive_a_crash(lab: Lab) -> None:
    """Postfix is reloaded, since it tries a server that broke a connection only after a while."""
    tables(lab).server("postgresql").alias("new@example.com", ALICE)

    with lab.tables.faulty(HostCrashed()):
        pass
    lab.mail.reload()

    assert arrives(lab, "new@example.com")


def test_bad_input_is_one_line(lab: Lab) -> None:
    """Each error names what is wrong and what there is."""
    host = tables(lab)

    with pytest.raises(UnknownName, match=r"unknown server of tables 'mysql' \(choose from maria"):
        host.server("mysql")
    with pytest.raises(UnknownName, match=r"unknown table 'alias' \(choose from domains, users, "):
        host.server("postgresql").remove("alias", "x")
    with pytest.raises(CommandFailed, match='relation "nosuch" does not exist'):
        host.server("postgresql").sql("SELECT * FROM nosuch")
    with pytest.raises(BadInput, match="a value must be ASCII without quotes"):
        host.server("postgresql").alias("o'neil@example.com", ALICE)
    with pytest.raises(BadInput, match="it has no tables"), lab.mail.faulty(TableDown("mariadb")):
        pass
    with pytest.raises(UnknownName), host.faulty(TablePassword("mysql")):
        pass
    with pytest.raises(BadInput, match="mariadb does not run"), host.faulty(TableDown("mariadb")):
        pass


@pytest.mark.parametrize(
    ("right", "wrong", "why"),
    [
        ("TABLES: postgresql", "TABLES: mysql", r"unknown server of tables 'mysql' \(choose from "),
        (
            "TABLES: postgresql}",
            "TABLES: postgresql, PGPORT: none}",
            r'postgresql does not listen: .*invalid value for parameter "port": "none"',
        ),
    ],
    ids=["unknown", "does not listen"],
)
def test_a_lab_whose_server_does_not_start_is_one_line(
    tmp_path: Path, right: str, wrong: str, why: str
) -> None:
    """The line names the server, its words and the topology; nothing of the lab is left."""
    text = SITE.path.read_text()
    assert right in text
    file = tmp_path / "broken.yaml"
    base = f"file: {SITE.path.parent / 'base.yaml'}"
    file.write_text(text.replace(right, wrong).replace("file: base.yaml", base))

    with pytest.raises(LabError, match=rf"tables does not start: {why}") as raised:
        MailLab(str(file)).start()

    assert "\n" not in str(raised.value)
    assert str(file) in str(raised.value)
    assert not [lab for lab in compose.projects().values() if lab.file == file]
