"""What can be wrong in a lab: one fault a file, each with a witness.

A fault is a frozen dataclass, its settings with units in their names, whose
``on(host)`` applies it for the length of a block and yields a Witness. The
witness counts, from outside the fault's own intention, how often it acted.
"""

from __future__ import annotations

from maillab.faults.crashed import Crashed
from maillab.faults.disk_full import DiskFull
from maillab.faults.extension_rewriter import ExtensionRewriter
from maillab.faults.greeting import Greeting
from maillab.faults.inodes_gone import InodesGone
from maillab.faults.killed import Killed
from maillab.faults.line import Dialup
from maillab.faults.mtu_black_hole import MtuBlackHole
from maillab.faults.names import (
    DeadNameserver,
    DnsAnswer,
    DnsDelay,
    DnsDrop,
    DnsTruncated,
    ForeignPtr,
    StaleAnswer,
)
from maillab.faults.netem import Netem
from maillab.faults.noop import Noop
from maillab.faults.open_files_limit import OpenFilesLimit
from maillab.faults.partition import Partition
from maillab.faults.paused import Paused
from maillab.faults.pix import Pix
from maillab.faults.process_limit import ProcessLimit
from maillab.faults.refused import Refused
from maillab.faults.reset_in_session import ResetInSession
from maillab.faults.silent_drop import SilentDrop
from maillab.faults.slow_fsync import SlowFsync
from maillab.faults.small_mtu import SmallMtu
from maillab.faults.smtp_stage import SmtpStage
from maillab.faults.starttls_stripper import StarttlsStripper
from maillab.faults.stopped import Stopped
from maillab.faults.syscall_fails import SyscallFails
from maillab.faults.unreachable import Unreachable

REGISTRY = {
    fault.__name__: fault
    for fault in (
        ExtensionRewriter,
        StarttlsStripper,
        Pix,
        Crashed,
        DeadNameserver,
        Dialup,
        DiskFull,
        DnsAnswer,
        DnsDelay,
        DnsDrop,
        DnsTruncated,
        ForeignPtr,
        Greeting,
        InodesGone,
        Killed,
        MtuBlackHole,
        Netem,
        Noop,
        OpenFilesLimit,
        Partition,
        Paused,
        ProcessLimit,
        Refused,
        ResetInSession,
        SilentDrop,
        SlowFsync,
        SmallMtu,
        SmtpStage,
        StaleAnswer,
        Stopped,
        SyscallFails,
        Unreachable,
    )
}

__all__ = [
    "REGISTRY",
    "Crashed",
    "DeadNameserver",
    "Dialup",
    "DiskFull",
    "DnsAnswer",
    "DnsDelay",
    "DnsDrop",
    "DnsTruncated",
    "ExtensionRewriter",
    "ForeignPtr",
    "Greeting",
    "InodesGone",
    "Killed",
    "MtuBlackHole",
    "Netem",
    "Noop",
    "OpenFilesLimit",
    "Partition",
    "Paused",
    "Pix",
    "ProcessLimit",
    "Refused",
    "ResetInSession",
    "SilentDrop",
    "SlowFsync",
    "SmallMtu",
    "SmtpStage",
    "StaleAnswer",
    "StarttlsStripper",
    "Stopped",
    "SyscallFails",
    "Unreachable",
]
