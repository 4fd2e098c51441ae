#!/usr/bin/python3
"""A Milter that refuses programs as attachments, and marks the mail that it has passed.

It is written with pymilter (Debian's python3-milter), and listens on port 8897.
"""

import email
import email.policy

import Milter

SUFFIXES = (".exe", ".scr", ".vbs")


class Attachments(Milter.Base):  # type: ignore[misc]  # pymilter has no type hints
    """One connection of Postfix."""

    def envfrom(self, *_: str) -> int:
        """Begin a message."""
        self.lines: list[bytes] = []
        return int(Milter.CONTINUE)

    @Milter.decode("bytes")  # type: ignore[untyped-decorator]  # as above
    def header(self, name: str, value: bytes) -> int:
        """Keep a header."""
        self.lines.append(name.encode() + b": " + value + b"\n")
        return int(Milter.CONTINUE)

    def eoh(self) -> int:
        """Keep the empty line after the headers."""
        self.lines.append(b"\n")
        return int(Milter.CONTINUE)

    def body(self, chunk: bytes) -> int:
        """Keep a part of the body."""
        self.lines.append(chunk)
        return int(Milter.CONTINUE)

    def eom(self) -> int:
        """Look at the names of all parts."""
        message = email.message_from_bytes(b"".join(self.lines), policy=email.policy.default)
        names = [part.get_filename("").lower() for part in message.walk()]
        bad = [name for name in names if name.endswith(SUFFIXES)]
        print(f"{self.getsymval('i')}: {len(names)} parts, refused: {bad or 'none'}", flush=True)
        if bad:
            self.setreply("550", "5.7.1", f"We accept no programs such as {bad[0]}")
            return int(Milter.REJECT)
        self.addheader("X-Attachments", "checked")
        return int(Milter.ACCEPT)


if __name__ == "__main__":
    Milter.factory = Attachments
    Milter.set_flags(Milter.ADDHDRS)
    Milter.runmilter("attachments", "inet:8897@127.0.0.1", 60)
