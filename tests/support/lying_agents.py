"""A plugin for pytest inside pytest: the programs of faults do nothing and report success.

The plugin answers each request from a fault to its own program, with a non-zero count where
the answer has one. No such request reaches the lab. All other requests do, including those
of witnesses.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from maillab.engine.channel import Channel
from maillab.faults import REGISTRY
from maillab.hosts.host import Fault, Host
from maillab.lab.lab import Lab
from maillab.scenario.state import Mail, Witness

# Waits for the fault's effects time out, which is no verdict either.
PATIENCE_S = 3.0
_FIVE = {"packets": 5, "bytes": 500}
_LINE = {"counts": dict.fromkeys(("carried_in", "carried_out", "lost_in", "lost_out"), _FIVE)}

_Lies = dict[str, dict[str, Any]]

_FILTER: _Lies = {
    "filter_add": {"table": "maillab_filter_9999"},
    "filter_remove": {},
}
_NAMES: _Lies = {
    "names_start": {"rule": 9999, "table": "maillab_names_9999"},
    "names_stop": {"acted": 5, "over_tcp": 5},
}
_SMTP: _Lies = {"smtp_fault_start": {"fault": 9999}, "smtp_fault_stop": {"acted": 5}}
_BOX: _Lies = {
    "middlebox_start": {"box": 9999},
    "middlebox_stop": {"counts": {"banners masked": 5, "offers stripped": 5}},
}
_SIGNALS: _Lies = {
    "signals_start": {"signaller": 9999},
    "signals_stop": {"confirmed": [101, 102, 103], "waited_s": []},
}
_STRACE: _Lies = {"inject_start": {"injection": 9999}, "inject_stop": {}}
_HELD: _Lies = {"part_hold": {"hold": 9999}, "part_release": {}}
_SLOW: _Lies = {"answers_delay": {"service": 9999}, "answers_undelay": {"acted": 5}}
_FILLER: _Lies = {
    "fill": {"filler": 9999, "free_bytes": 0, "free_inodes": 0},
    "take_inodes": {"filler": 9999, "free_bytes": 0, "free_inodes": 0},
    "unfill": {},
}

# By fault: the requests to its program, and the false answers.
LIES: dict[str, _Lies] = {
    "NoRoute": {"routes_take": {"routes": 9999}, "routes_give_back": {}},
    **dict.fromkeys(
        (
            "IcmpFilter", "MtuBlackHole", "Partition", "Refused", "ResetInSession", "SilentDrop",
            "SmallMtu", "Unreachable",
        ),
        _FILTER,
    ),
    **dict.fromkeys(
        (
            "BlocklistError", "DnsAnswer", "DnsDelay", "DnsDrop", "DnsTruncated", "ForeignPtr",
            "StaleAnswer",
        ),
        _NAMES,
    ),
    "DeadNameserver": {
        "nameserver_start": {"number": 9999, "table": "maillab_dead_9999"},
        "nameserver_stop": {},
    },
    **dict.fromkeys(("Greeting", "SmtpStage"), _SMTP),
    **dict.fromkeys(("ExtensionRewriter", "Pix", "StarttlsStripper"), _BOX),
    "Dialup": {
        "line_start": {}, "line_call": {}, "line_hang_up": _LINE, "line_counts": _LINE,
        "line_stop": {},
    },
    "Netem": {
        "impair": {"name": "maillab_filter_9999", "by": "the userspace queue"},
        "repair": {"counts": {"seen": 5, "lost": 5, "delayed": 5, "duplicated": 5}},
    },
    **dict.fromkeys(("DaemonKilled", "DaemonFrozen"), _SIGNALS),
    **dict.fromkeys(("SlowFsync", "SyscallFails"), _STRACE),
    "SlowDisk": {
        "stay_begin": {"stay": 9999}, "stay_moved": {}, "stay_leave": {}, "stay_end": {},
        "disk_mount": {"disk": 9999, "lacks": ""}, "disk_unmount": {},
    },
    **dict.fromkeys(("DiskFull", "InodesGone"), _FILLER),
    "OpenFilesLimit": {"open_files": {"limit": 9999}, "open_files_any": {}},
    **dict.fromkeys(("FilterDown", "FilterFrozen", "TableDown", "TableFrozen"), _HELD),
    "TablePassword": {"hold_rows": {"hold": 9999}, "release_rows": {}},
    "FilterSlow": _SLOW,
    "SignaturesExpired": {
        "signatures_expire": {"number": 9999, "signed": [".", "dane.example", "no-tlsa.example"]},
        "signatures_renew": {},
    },
    # More processes than any limit.
    "ProcessLimit": {"process_count": {"current": 20_000}},
}  # fmt: skip

# Faults without a program in the agent, and what does their work instead.
HONEST = {
    "HostCrashed": "the engine kills the container, and reports its exit status",
    "HostFrozen": "the engine pauses the container, and reports its state",
    "Noop": "does nothing and counts nothing",
}

# The false answers in use, and the faults that the test has applied so far.
_lying: list[_Lies] = []
_met: list[str] = []


def pytest_configure() -> None:
    """Replace the answers of fault programs before any test applies a fault."""
    honest = Channel.call
    patient = Lab.settle

    def call(channel: Channel, op: str, **arguments: Any) -> dict[str, Any]:
        for lies in _lying:
            if op in lies:
                return dict(lies[op])
        return honest(channel, op, **arguments)

    def settle(lab: Lab, *mails: Mail, until: Callable[[], object] | None = None) -> None:
        if _met:
            patient(lab, *mails, until=until, within_s=PATIENCE_S)
        else:
            patient(lab, *mails, until=until)

    setattr(Channel, "call", call)  # noqa: B010  # for this run alone
    setattr(Lab, "settle", settle)  # noqa: B010  # as above
    for name in LIES:
        _give_a_liar(name)


def pytest_runtest_setup() -> None:
    """Reset the applied faults, so that a test without one runs as usual."""
    _met.clear()


def _give_a_liar(name: str) -> None:
    fault_class: Any = REGISTRY[name]
    acts = fault_class.on

    @contextlib.contextmanager
    def on(fault: Fault, host: Host) -> Iterator[Witness]:
        _met.append(name)
        _lying.append(LIES[name])
        try:
            with acts(fault, host) as witness:
                yield witness
        finally:
            _lying.remove(LIES[name])

    fault_class.on = on
