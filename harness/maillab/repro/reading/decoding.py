"""The text in a file's bytes. Pure."""

from __future__ import annotations

import codecs

from maillab.errors import BadInput

# What files begin with that people attach instead of text.
_BEGINNINGS = (
    (b"\x1f\x8b", "gzip data; unpack it (zcat)"),
    (b"PK\x03\x04", "a zip archive or an office document; paste its text"),
    (b"%PDF", "a PDF document; paste its text"),
    (b"\x89PNG", "a picture; paste the text that it shows"),
    (b"\xff\xd8\xff", "a picture; paste the text that it shows"),
)
# Control characters that texts have.
_IN_TEXTS = b"\t\n\v\f\r\x1b"
_CONTROLS = bytes(byte for byte in range(32) if byte not in _IN_TEXTS)


def decoded(raw: bytes, name: str) -> str:
    """Return a file's text: UTF-8, Windows' UTF-16, or a one-byte character set.

    Raise BadInput, which begins with ``name``, if the file is no text.
    """
    for beginning, what in _BEGINNINGS:
        if raw.startswith(beginning):
            raise BadInput(f"{name}: not text but {what}")
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16", errors="replace")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = ""
    if "\0" in text or not (text or raw.translate(None, delete=_CONTROLS) == raw):
        at = next(number for number, byte in enumerate(raw) if byte in _CONTROLS)
        raise BadInput(f"{name}: not text (byte {at} is {raw[at]:#04x}); paste the text itself")
    # Names and addresses in a log are ASCII, whatever else a one-byte character means.
    return text or raw.decode("cp1252", errors="replace")
