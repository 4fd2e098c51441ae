"""Signs zones with keys of the lab's own, from the root down (RFC 4033 to 4035).

A section of ``/etc/nsd/lab.zone`` asks for it with a line, and the root zone is one of them:

    $SIGN                signed; the zone above has its DS record
    $SIGN undelegated    the zone above has no DS record
    $SIGN expired        the signatures expired three days ago
    $SIGN except TLSA    the records of that type have no signature

ldns-keygen(1) and ldns-signzone(1) do the work. The root's DS record, the trust anchor of the
lab's resolvers, is ``/etc/nsd/published/root.ds``; the file ``failed`` there says why there is
none.
"""

from __future__ import annotations

import re
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path

KEYS = Path("/etc/nsd/keys")
ANCHOR = Path("/etc/nsd/published/root.ds")
FAILED = ANCHOR.with_name("failed")
ALGORITHM = "ECDSAP256SHA256"
SIGN = re.compile(r"(?m)^\$SIGN\b[ \t]*(.*?)[ \t]*$")
SUFFIX = ".signed"
DAY_S = 86400
VALID_DAYS = 30
# A resolver may forgive a day (unbound.conf(5) val-sig-skew-max).
EXPIRED_DAYS = 3
# ldns-signzone(1) reports what is wrong on standard error.
_STAMP = "%Y%m%d%H%M%S"


class DoesNotSign(Exception):
    """A zone does not sign; the text has its name and the reason."""


@dataclass(frozen=True)
class Signer:
    """A zone's signing: its key's file without suffix, and its defects on purpose."""

    origin: str
    key: str
    expired: bool = False
    undelegated: bool = False
    without: str = ""

    @property
    def ds(self) -> str:
        """The records for the zone above, as in a zone file."""
        return "" if self.undelegated else (KEYS / f"{self.key}.ds").read_text()


def asked(text: str) -> tuple[str, str | None]:
    """Return a section without its $SIGN line, and the words of that line."""
    found = SIGN.search(text)
    return (SIGN.sub("", text), found[1]) if found else (text, None)


def options(origin: str, words: str) -> Signer:
    """Return how to sign a zone, without a key; raise DoesNotSign for unknown words."""
    found = re.fullmatch(r"|expired|undelegated|except (?P<type>[A-Z]+)", words)
    if not found:
        raise DoesNotSign(
            f"$ORIGIN {origin}: unknown $SIGN {words!r} "
            "(choose from '', 'expired', 'undelegated', 'except TYPE')"
        )
    return Signer(
        origin,
        key="",
        expired=words == "expired",
        undelegated=words == "undelegated",
        without=found["type"] or "",
    )


def with_key(signer: Signer) -> Signer:
    """Make the zone's key, and note it for ``signer_of``."""
    KEYS.mkdir(exist_ok=True)
    key = _run("ldns-keygen", "-a", ALGORITHM, "-k", "-r", "/dev/urandom", signer.origin, cwd=KEYS)
    made = replace(signer, key=key.strip())
    note(made)
    return made


def note(signer: Signer) -> None:
    """Write down how a zone is signed."""
    words = "expired" if signer.expired else "undelegated" if signer.undelegated else ""
    words = f"except {signer.without}" if signer.without else words
    (KEYS / f"{signer.origin}sign").write_text(f"{signer.key}\n{words}\n")


def signer_of(origin: str) -> Signer | None:
    """Return how a zone of the lab is signed, or None if it is not."""
    file = KEYS / f"{origin}sign"
    if not file.exists():
        return None
    key, words = file.read_text().splitlines()
    return replace(options(origin, words), key=key)


def hand_over(file: Path, text: str) -> None:
    """Write a file for other containers at once; nothing happens without a shared folder."""
    if file.parent.exists():
        new = file.with_name(f"{file.name}.new")
        new.write_text(text)
        new.rename(file)


def signed() -> list[Path]:
    """Return the notes of the zones that are signed; each is named ORIGINsign."""
    return sorted(KEYS.glob("*sign"))


def sign(signer: Signer, file: Path) -> Path:
    """Sign a zone's file; return the signed one, beside it. Raise DoesNotSign."""
    now = time.time()
    begins, ends = now - DAY_S, now + VALID_DAYS * DAY_S
    if signer.expired:
        begins, ends = now - VALID_DAYS * DAY_S, now - EXPIRED_DAYS * DAY_S
    dates = [time.strftime(_STAMP, time.gmtime(at)) for at in (begins, ends)]
    signed = file.with_name(file.name + SUFFIX)
    argv = ["ldns-signzone", "-i", dates[0], "-e", dates[1], "-f", str(signed)]
    _run(*argv, "-o", signer.origin, str(file), signer.key, cwd=KEYS)
    if signer.without:
        lines = signed.read_text().splitlines(keepends=True)
        gone = re.compile(rf"\sRRSIG\s+{signer.without}\s")
        signed.write_text("".join(line for line in lines if not gone.search(line)))
    return signed


def _run(*argv: str, cwd: Path) -> str:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        words = " ".join((done.stderr or done.stdout).split())
        raise DoesNotSign(f"{argv[0]} {argv[-2]}: {words}")
    return done.stdout
