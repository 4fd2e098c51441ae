"""The programs of a container with filters, tested without one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import filterparts
import filters
import parts
import supervisor
from bounded import run

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue
   0: 0100007F:22BB 00000000:0000 0A 00000000:00000000
   1: 0100007F:22BC 0100007F:9C40 01 00000000:00000000
"""
UNIX = """\
Num       RefCount Protocol Flags    Type St Inode Path
ffff8881: 00000002 00000000 00010000 0001 01 12345 /run/opendkim/opendkim.sock
ffff8882: 00000003 00000000 00000000 0001 03 12346 /run/client.sock
ffff8883: 00000002 00000000 00010000 0001 01 12347
"""


@pytest.mark.parametrize(
    ("name", "configuration", "ports", "paths"),
    [
        ("opendkim", "Mode v\nSocket inet:8891@127.0.0.1\n", [8891], []),
        ("opendkim", "Socket\t\tlocal:/run/opendkim.sock\n", [], ["/run/opendkim.sock"]),
        ("opendmarc", "#Socket inet:1\n", [], []),
        ("postgrey", 'POSTGREY_OPTS="--inet=127.0.0.1:10023 --delay=60"\n', [10023], []),
        ("postgrey", 'POSTGREY_OPTS="--unix=/run/postgrey.sock"\n', [], ["/run/postgrey.sock"]),
        ("postsrsd", "SRS_DOMAIN=example.org\n", [10001, 10002], []),
        ("postsrsd", "SRS_FORWARD_PORT=1\nSRS_REVERSE_PORT=2\n", [1, 2], []),
        ("own", "Socket unix:/var/spool/postfix/own.sock\n", [], ["/var/spool/postfix/own.sock"]),
        ("rspamd", 'milter = yes;\nbind_socket = "127.0.0.1:11332";\n', [11332], []),
        ("rspamd", 'bind_socket = "/run/rspamd.sock mode=0666";\n', [], ["/run/rspamd.sock"]),
        ("policyd-spf", "TestOnly = 1\n", [10031], []),
    ],
)
def test_a_filter_listens_where_its_configuration_says(
    name: str, configuration: str, ports: list[int], paths: list[str]
) -> None:
    assert parts.sockets(filterparts.PARTS[name], configuration) == (ports, paths)


def test_only_sockets_that_listen_count() -> None:
    """No connection is made: a filter would log it."""
    assert parts.listening(TCP, UNIX) == ([8891], ["/run/opendkim/opendkim.sock"])


@pytest.mark.parametrize(
    ("text", "configured"),
    [
        ("# x\nMode v\nSyslog yes\n", "# x\nSyslog yes\nMode s\n"),
        ("Mode = v\nMode2 = 1\n", "Mode2 = 1\nMode = s\n"),
        ("Mode=v\n", "Mode=s\n"),
        ("", "Mode s\n"),
    ],
)
def test_a_setting_has_the_form_of_the_file(text: str, configured: str) -> None:
    assert filters.configured(text, {"Mode": "s"}) == configured


def test_a_reset_empties_a_database_and_leaves_its_folder(tmp_path: Path) -> None:
    (tmp_path / "postgrey.db").touch()

    filters.empty(str(tmp_path))
    filters.empty("")

    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_supervisor_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its words, which name the filter and its file."""
    monkeypatch.setattr(supervisor, "CONTROL", tmp_path / "control")

    async def asked() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.write(b'{"error": "postgrey does not listen: no reason"}\n')
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_unix_server(serve, tmp_path / "control"):
            await supervisor.ask("start", names=["postgrey"])

    with pytest.raises(RuntimeError, match="postgrey does not listen: no reason"):
        run(asked())
