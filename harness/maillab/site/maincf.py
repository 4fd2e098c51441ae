"""The text of a main.cf as settings (postconf(5), "DESCRIPTION"). Pure."""

from __future__ import annotations

from maillab.errors import BadInput


def settings(text: str, where: str = "main.cf") -> dict[str, str]:
    """Return the parameters that a main.cf sets, as Postfix reads it.

    A line that starts with white space continues the line before; comments and empty
    lines in between do not end it. If a parameter is set twice, the later line counts.
    Raise BadInput with the number of a line that sets nothing; ``where`` names the file.
    """
    found: dict[str, str] = {}
    name = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0].isspace() and name:
            found[name] = f"{found[name]} {line.strip()}".strip()
            continue
        name, equals, value = (part.strip() for part in line.partition("="))
        if not (name and equals) or line[0].isspace():
            raise BadInput(
                f"{where}:{number}: {line.strip()!r} sets no parameter; write name = value"
            )
        found[name] = value
    return found
