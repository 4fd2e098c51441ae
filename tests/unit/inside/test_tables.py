"""The programs of a host with tables, tested without one."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import pytest

import supervisor
import tableparts
import tablesinit


@pytest.mark.parametrize(
    ("server", "line", "reads"),
    [
        ("postgresql", "postfix@198.18.0.10 LOG:  statement: SELECT 1", True),
        ("postgresql", "postfix@198.18.0.10 LOG:  statement: set client_encoding to 'UTF8'", True),
        ("postgresql", "[unknown]@198.18.0.10 LOG:  connection received: host=x", True),
        ("postgresql", "postgres@[local] LOG:  statement: INSERT INTO aliases VALUES (1)", False),
        ("postgresql", "postgres@[local] LOG:  statement: DROP TABLE users", False),
        ("mariadb", "261130 19:53:34\t     3 Connect\tpostfix@198.18.0.10 on mail", True),
        ("mariadb", "3 Query\tSELECT name FROM domains", True),
        ("mariadb", "3 Query\tDELETE FROM aliases", False),
        ("openldap", "6b.2 0x7f conn=1002 op=1 SRCH attr=mail", True),
        ("openldap", '6b.2 0x7f conn=1002 op=1 ADD dn="cn=x"', False),
    ],
)
def test_only_lookups_leave_rows_as_they_are(server: str, line: str, reads: bool) -> None:  # noqa: FBT001  # a parameter of the table
    """Any other line makes a reset restore the rows."""
    assert bool(re.search(tableparts.PARTS[server].reads, line)) is reads


def test_a_copy_replaces_all_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tableparts, "DATA", str(tmp_path / "data"))
    monkeypatch.setattr(tableparts, "FRESH", str(tmp_path / "fresh"))
    fresh, data = tmp_path / "fresh/openldap", tmp_path / "data/openldap"
    (fresh / "sub").mkdir(parents=True)
    (fresh / "sub/rows").write_text("of the site")
    data.mkdir(parents=True)
    (data / "left").touch()

    tablesinit.copy("openldap")

    assert [path.relative_to(data).as_posix() for path in sorted(data.rglob("*"))] == [
        "sub",
        "sub/rows",
    ]
    assert (data / "sub/rows").read_text() == "of the site"


def test_processes_of_another_group_belong_to_their_parent() -> None:
    """PostgreSQL gives each of its processes a session of its own."""
    script = "setsid sh -c 'echo $$; sleep 100 & wait' & wait"
    first = subprocess.Popen(
        ["sh", "-c", script], stdout=subprocess.PIPE, text=True, process_group=0
    )
    assert first.stdout
    child = int(first.stdout.readline())
    try:
        members = supervisor.members(first.pid)
        assert {first.pid, child} <= set(members)
    finally:
        for pid in supervisor.members(first.pid):
            subprocess.run(["kill", f"-{signal.SIGKILL}", str(pid)], check=False)
        first.communicate()
