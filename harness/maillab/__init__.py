"""A containerized test harness and reference mail lab on real Postfix.

The names below are the public face: scenarios import them from here, and faults
from ``maillab.faults``. Every other module may change.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maillab.errors import BadInput, MaillabError, NotConserved, UnknownName, Void
    from maillab.hosts import imap, oauth2, pop3, sasl, uucp
    from maillab.hosts.datagrams import Datagrams
    from maillab.hosts.dovecot import DovecotHost
    from maillab.hosts.front import FrontHost
    from maillab.hosts.host import Fault, Host
    from maillab.hosts.mailserver import UNDER_WAY, MailServer, QueueEntry
    from maillab.hosts.postfix import MailHost, PostfixHost
    from maillab.hosts.sendmail import SendmailHost
    from maillab.hosts.serverhost import ServerHost
    from maillab.hosts.session import Reply, Session
    from maillab.hosts.tables import TableServer, TablesHost
    from maillab.lab import pcap
    from maillab.lab.lab import Lab
    from maillab.lab.mail_lab import MailLab
    from maillab.load.report import Report
    from maillab.mail import message
    from maillab.mail.dovecotlog import (
        LoggedIn,
        LoginRefused,
        MailDiscarded,
        MailRedirected,
        MailReturned,
        MailSaved,
        PasswordRefused,
        VacationSent,
    )
    from maillab.mail.filterlog import AddressRewritten, Checked, Greylisted, Signed
    from maillab.mail.haproxylog import HandedOver, ServerChecked
    from maillab.mail.history import Stored
    from maillab.mail.maillog import (
        Accepted,
        Active,
        Admin,
        Blocklisted,
        CertificateRefused,
        Complaint,
        Connected,
        Delivery,
        Disconnected,
        Event,
        Expired,
        Held,
        HopFailed,
        Notified,
        PickedUp,
        Rejected,
        Removed,
        Screened,
        Started,
        TlsSession,
    )
    from maillab.mail.tableslog import TableConnection, TableLoginRefused, TableQuery
    from maillab.scenario.state import Mail

_MODULES = {
    "maillab.hosts": ("imap", "oauth2", "pop3", "sasl", "uucp"),
    "maillab.lab": ("pcap",),
    "maillab.mail": ("message",),
}
_NAMES = {
    "maillab.errors": ("BadInput", "MaillabError", "NotConserved", "UnknownName", "Void"),
    "maillab.hosts.datagrams": ("Datagrams",),
    "maillab.hosts.dovecot": ("DovecotHost",),
    "maillab.hosts.front": ("FrontHost",),
    "maillab.hosts.host": ("Fault", "Host"),
    "maillab.hosts.mailserver": ("UNDER_WAY", "MailServer", "QueueEntry"),
    "maillab.hosts.postfix": ("MailHost", "PostfixHost"),
    "maillab.hosts.sendmail": ("SendmailHost",),
    "maillab.hosts.serverhost": ("ServerHost",),
    "maillab.hosts.session": ("Reply", "Session"),
    "maillab.hosts.tables": ("TableServer", "TablesHost"),
    "maillab.lab.lab": ("Lab",),
    "maillab.lab.mail_lab": ("MailLab",),
    "maillab.load.report": ("Report",),
    "maillab.mail.dovecotlog": (
        *("LoggedIn", "LoginRefused", "MailDiscarded", "MailRedirected"),
        *("MailReturned", "MailSaved", "PasswordRefused", "VacationSent"),
    ),
    "maillab.mail.filterlog": ("AddressRewritten", "Checked", "Greylisted", "Signed"),
    "maillab.mail.haproxylog": ("HandedOver", "ServerChecked"),
    "maillab.mail.history": ("Stored",),
    "maillab.mail.maillog": (
        *("Accepted", "Active", "Admin", "Blocklisted", "CertificateRefused", "Complaint"),
        *("Connected", "Delivery", "Disconnected", "Event", "Expired", "Held", "HopFailed"),
        *("Notified", "PickedUp", "Rejected", "Removed", "Screened", "Started", "TlsSession"),
    ),
    "maillab.mail.tableslog": ("TableConnection", "TableLoginRefused", "TableQuery"),
    "maillab.scenario.state": ("Mail",),
}
_HOME = {name: home for home, names in _NAMES.items() for name in names}
_HOME_OF_MODULE = {name: home for home, names in _MODULES.items() for name in names}

__all__ = [
    "UNDER_WAY",
    "Accepted",
    "Active",
    "AddressRewritten",
    "Admin",
    "BadInput",
    "Blocklisted",
    "CertificateRefused",
    "Checked",
    "Complaint",
    "Connected",
    "Datagrams",
    "Delivery",
    "Disconnected",
    "DovecotHost",
    "Event",
    "Expired",
    "Fault",
    "FrontHost",
    "Greylisted",
    "HandedOver",
    "Held",
    "HopFailed",
    "Host",
    "Lab",
    "LoggedIn",
    "LoginRefused",
    "Mail",
    "MailDiscarded",
    "MailHost",
    "MailLab",
    "MailRedirected",
    "MailReturned",
    "MailSaved",
    "MailServer",
    "MaillabError",
    "NotConserved",
    "Notified",
    "PasswordRefused",
    "PickedUp",
    "PostfixHost",
    "QueueEntry",
    "Rejected",
    "Removed",
    "Reply",
    "Report",
    "Screened",
    "SendmailHost",
    "ServerChecked",
    "ServerHost",
    "Session",
    "Signed",
    "Started",
    "Stored",
    "TableConnection",
    "TableLoginRefused",
    "TableQuery",
    "TableServer",
    "TablesHost",
    "TlsSession",
    "UnknownName",
    "VacationSent",
    "Void",
    "imap",
    "message",
    "oauth2",
    "pcap",
    "pop3",
    "sasl",
    "uucp",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562), so that importing maillab is quick."""
    if name in _HOME_OF_MODULE:
        return importlib.import_module(f"{_HOME_OF_MODULE[name]}.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'maillab' has no attribute {name!r}")
