"""Try every known way out of a lab. Runs in a lab's containers (Python 3.9).

    ways_out.py sockets NAME PORT ADDRESS…   ways open to any program
    ways_out.py frames NAME PORT ADDRESS…    ways open to a program with NET_RAW

Print, one per line, each way that got an answer and each forbidden right that was
granted. Datagrams to the addresses at PORT carry NAME, so a listener there can identify
them.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import tempfile
from collections.abc import Iterator

TIMEOUT_S = 0.3
BROADCASTS = ("255.255.255.255", "224.0.0.1")
RESOLVER = "127.0.0.11"
# The engine itself resolves the first name if a service has it.
NAMES = ("dns", "www.debian.org")
ALL_NODES = "ff02::1"
# All nodes, all routers, multicast DNS; of the link, and of the site.
GROUPS = (ALL_NODES, "ff02::2", "ff02::fb", "ff05::1")


def interfaces() -> list[str]:
    """Return the names of all interfaces except loopback."""
    return [name for _, name in socket.if_nameindex() if name != "lo"]


def raw_sockets() -> Iterator[str]:
    """Yield each raw socket that the kernel grants, and mknod of a tunnel device."""
    for family, protocol in (
        (socket.AF_PACKET, socket.htons(3)),
        (socket.AF_INET, socket.IPPROTO_RAW),
        (socket.AF_INET, socket.IPPROTO_ICMP),
        (socket.AF_INET6, socket.IPPROTO_ICMPV6),
    ):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_RAW, protocol):
            yield f"raw socket {family.name} {protocol}"
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(OSError):
        os.mknod(f"{folder}/tun", 0o20600, os.makedev(10, 200))
        yield "mknod"


def connections(addresses: list[str], port: int) -> Iterator[str]:
    """Yield each address that a TCP connection reaches, by routes or by an interface."""
    for name in ["", *interfaces()]:
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with contextlib.suppress(OSError), socket.socket(family) as ours:
                ours.settimeout(TIMEOUT_S)
                if name:
                    ours.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode())
                ours.connect((address, port))
                yield f"TCP {address} {name}"


def datagrams(name: str, addresses: list[str], port: int) -> None:
    """Send a datagram to each address and by broadcast, by routes and by each interface."""
    for interface in ["", *interfaces()]:
        for address in [*addresses, *BROADCASTS]:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with (
                contextlib.suppress(OSError),
                socket.socket(family, socket.SOCK_DGRAM) as ours,
            ):
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                if interface:
                    ours.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
                ours.sendto(f"{name}: UDP {address} {interface}".encode(), (address, port))


def link_local(name: str, addresses: list[str], port: int) -> Iterator[str]:
    """Yield each link-local address that a TCP connection reaches; send datagrams to all nodes."""
    for interface in interfaces():
        scope = socket.if_nametoindex(interface)
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as ours,
        ):
            for group in GROUPS:
                with contextlib.suppress(OSError):
                    data = f"{name}: UDP {group} {interface}".encode()
                    ours.sendto(data, (group, port, 0, scope))
        for address in addresses:
            with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as ours:
                ours.settimeout(TIMEOUT_S)
                ours.connect((address, port, 0, scope))
                yield f"TCP {address} {interface}"


def question(name: str) -> bytes:
    """Return a DNS query for the address of a name."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack("!6H", 1, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", 1, 1)


def resolver() -> Iterator[str]:
    """Yield each question that the engine's resolver answers, and its name service by TCP."""
    for name in NAMES:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
            ours.settimeout(3 * TIMEOUT_S)
            with contextlib.suppress(OSError):
                ours.sendto(question(name), (RESOLVER, 53))
                records = struct.unpack("!H", ours.recv(1000)[6:8])[0]
                yield f"resolver answers {name}: {records} records"
    with contextlib.suppress(OSError), socket.create_connection((RESOLVER, 53), TIMEOUT_S):
        yield "resolver listens"


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def link_local_of(mac: bytes) -> bytes:
    """Return the IPv6 link-local address for a MAC address."""
    return bytes.fromhex("fe80000000000000") + mac[:3] + b"\xff\xfe" + mac[3:]


def echo6(mac: bytes, address: str = ALL_NODES) -> bytes:
    """Return a frame with an echo request to an IPv6 address, by multicast to all nodes."""
    source, target = link_local_of(mac), socket.inet_pton(socket.AF_INET6, address)
    return icmp6(mac, source, target, struct.pack("!BBHHH", 128, 0, 0, 7, 1))


def who_has6(mac: bytes, address: str) -> bytes:
    """Return a frame that asks for the neighbour with an IPv6 address (RFC 4861)."""
    source, target = link_local_of(mac), socket.inet_pton(socket.AF_INET6, address)
    group = bytes.fromhex("ff0200000000000000000001ff") + target[-3:]
    return icmp6(mac, source, group, struct.pack("!BBHI", 135, 0, 0, 0) + target + b"\1\1" + mac)


def icmp6(mac: bytes, source: bytes, target: bytes, body: bytes) -> bytes:
    """Return a frame with an ICMPv6 message, to all nodes by its MAC address."""
    pseudo = source + target + struct.pack("!II", len(body), socket.IPPROTO_ICMPV6)
    body = body[:2] + struct.pack("!H", checksum(pseudo + body)) + body[4:]
    header = struct.pack("!IHBB", 6 << 28, len(body), socket.IPPROTO_ICMPV6, 255)
    return bytes.fromhex("333300000001") + mac + b"\x86\xdd" + header + source + target + body


def datagram4(mac: bytes, address: str, port: int, data: bytes) -> bytes:
    """Return a broadcast frame with a UDP datagram."""
    udp = struct.pack("!4H", port, port, 8 + len(data), 0) + data
    source, target = socket.inet_aton("198.51.100.1"), socket.inet_aton(address)
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0) + source + target
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    return b"\xff" * 6 + mac + b"\x08\0" + header + udp


def who_has(mac: bytes, address: str) -> bytes:
    """Return an ARP request for an address."""
    head = struct.pack("!HHBBH", 1, 0x800, 6, 4, 1) + mac + socket.inet_aton("198.51.100.1")
    return b"\xff" * 6 + mac + b"\x08\x06" + head + bytes(6) + socket.inet_aton(address)


def frames(name: str, addresses: list[str], addresses6: list[str], port: int) -> Iterator[str]:
    """Yield each answer to raw frames, on each interface."""
    for interface in interfaces():
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as wire:
            wire.bind((interface, 0))
            wire.settimeout(TIMEOUT_S)
            mac = wire.getsockname()[4]
            data = f"{name}: frame {interface}".encode()
            made = [echo6(mac)]
            made += [datagram4(mac, address, port, data) for address in (*addresses, *BROADCASTS)]
            made += [who_has(mac, address) for address in addresses]
            made += [make(mac, address) for make in (echo6, who_has6) for address in addresses6]
            for frame in made:
                with contextlib.suppress(OSError):
                    wire.send(frame)
            with contextlib.suppress(OSError):
                while True:
                    heard = wire.recv(2000)
                    if answers(heard, mac, addresses):
                        yield f"{interface}: a frame of type {heard[12:14].hex()} came back"


def answers(frame: bytes, mac: bytes, addresses: list[str]) -> bool:
    """Return True if a frame answers ours: from one of the addresses, or to the echo.

    Before it sends the echo reply, a station asks for our link-local address.
    """
    kind = frame[12:14].hex()
    if kind == "86dd":
        return link_local_of(mac) in (frame[38:54], frame[62:78])
    # The offset of the sender's IPv4 address.
    start = {"0806": 28, "0800": 26}.get(kind, 0)
    sender = socket.inet_ntoa(frame[start : start + 4])
    return frame[:6] == mac and start > 0 and sender in addresses


def main() -> None:
    """Try all ways of one kind."""
    kind, name, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    addresses = [address for address in sys.argv[4:] if ":" not in address]
    addresses6 = [address for address in sys.argv[4:] if ":" in address]
    if kind == "frames":
        ways = [*frames(name, addresses, addresses6, port)]
    else:
        everywhere = [*addresses, *(a for a in addresses6 if not a.startswith("fe80:"))]
        datagrams(name, everywhere, port)
        ways = [*raw_sockets(), *connections(everywhere, port), *resolver()]
        ways += link_local(name, [a for a in addresses6 if a.startswith("fe80:")], port)
    print("\n".join(sorted(set(ways))))


if __name__ == "__main__":
    main()
