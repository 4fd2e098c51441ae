"""Every fault that maillab can inject: one per file, each with a witness.

A fault is a frozen dataclass: its fields are its settings, with units in their names. Its
``on(host)`` applies the fault for a block and yields a Witness. The witness counts how often
the fault acted. It never relies on the program that carries out the fault alone.
"""

from __future__ import annotations

from maillab.faults.disk.disk_full import DiskFull as DiskFull
from maillab.faults.disk.inodes_gone import InodesGone as InodesGone
from maillab.faults.disk.slow_disk import SlowDisk as SlowDisk
from maillab.faults.disk.slow_fsync import SlowFsync as SlowFsync
from maillab.faults.disk.syscall_fails import SyscallFails as SyscallFails
from maillab.faults.dns.answers import BlocklistError as BlocklistError
from maillab.faults.dns.answers import DnsAnswer as DnsAnswer
from maillab.faults.dns.answers import DnsDelay as DnsDelay
from maillab.faults.dns.answers import DnsDrop as DnsDrop
from maillab.faults.dns.answers import DnsTruncated as DnsTruncated
from maillab.faults.dns.answers import ForeignPtr as ForeignPtr
from maillab.faults.dns.answers import Rcode as Rcode
from maillab.faults.dns.answers import StaleAnswer as StaleAnswer
from maillab.faults.dns.dead_nameserver import DeadNameserver as DeadNameserver
from maillab.faults.dns.signatures_expired import SignaturesExpired as SignaturesExpired
from maillab.faults.noop import Noop as Noop
from maillab.faults.path.dialup import Dialup as Dialup
from maillab.faults.path.icmp_filter import IcmpFilter as IcmpFilter
from maillab.faults.path.mtu_black_hole import MtuBlackHole as MtuBlackHole
from maillab.faults.path.netem import Netem as Netem
from maillab.faults.path.no_route import NoRoute as NoRoute
from maillab.faults.path.partition import Direction as Direction
from maillab.faults.path.partition import Partition as Partition
from maillab.faults.path.refused import Refused as Refused
from maillab.faults.path.reset_in_session import ResetInSession as ResetInSession
from maillab.faults.path.silent_drop import SilentDrop as SilentDrop
from maillab.faults.path.small_mtu import SmallMtu as SmallMtu
from maillab.faults.path.unreachable import Unreachable as Unreachable
from maillab.faults.process.daemon_frozen import DaemonFrozen as DaemonFrozen
from maillab.faults.process.daemon_killed import DaemonKilled as DaemonKilled
from maillab.faults.process.filter_down import FilterDown as FilterDown
from maillab.faults.process.filter_frozen import FilterFrozen as FilterFrozen
from maillab.faults.process.filter_slow import FilterSlow as FilterSlow
from maillab.faults.process.host_crashed import HostCrashed as HostCrashed
from maillab.faults.process.host_frozen import HostFrozen as HostFrozen
from maillab.faults.process.open_files_limit import OpenFilesLimit as OpenFilesLimit
from maillab.faults.process.process_limit import ProcessLimit as ProcessLimit
from maillab.faults.process.table_down import TableDown as TableDown
from maillab.faults.process.table_frozen import TableFrozen as TableFrozen
from maillab.faults.process.table_password import TablePassword as TablePassword
from maillab.faults.registry import REGISTRY as REGISTRY
from maillab.faults.smtp.extension_rewriter import ExtensionRewriter as ExtensionRewriter
from maillab.faults.smtp.greeting import Greeting as Greeting
from maillab.faults.smtp.pix import Pix as Pix
from maillab.faults.smtp.smtp_stage import SmtpStage as SmtpStage
from maillab.faults.smtp.smtp_stage import Stage as Stage
from maillab.faults.smtp.starttls_stripper import StarttlsStripper as StarttlsStripper

# Names from before 0.1.0, kept for one release.
Crashed = HostCrashed
Killed = DaemonKilled
Paused = HostFrozen
Stopped = DaemonFrozen
