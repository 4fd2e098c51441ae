"""Contents of lookup tables that follow a line with their path. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_PATH = re.compile(r"(?<![\w/.~-])/(?:[\w.+@-]{1,255}/){0,20}[\w.+@-]{1,255}(?![\w/])", re.ASCII)
_PLACES = ("/etc/", "/usr/local/", "/opt/", "/srv/", "/var/lib/", "/var/spool/", "/home/",
           "/data/", "/config/", "/root/", "/private/etc/", "/Library/")  # fmt: skip
_LOGS = re.compile(r".*(?:/log/.*|\.log|/syslog|/maillog|mail\.(?:log|err|info|warn))(?:\.\w+)?$")
# No heading is longer.
_HEADING_MAX = 300
# Other words that may stand in a heading.
_FILLERS = {
    "cat", "less", "more", "head", "tail", "sudo", "grep", "file", "files", "content", "contents",
    "of", "the", "my", "in", "and", "here", "is", "from", "this", "table", "map", "has", "contains",
    "snip", "output", "begin", "begins", "looks", "like", "our", "postmap", "-s", "-v",
    "docker", "exec", "-it", "-i", "-t", "-n", "are", "what", "now",
}  # fmt: skip
_EDGES = " \t#*=<>`:-~.,;!$[](){}\"'|+"
_PROMPT = re.compile(r"^\s*(?:\[?[\w.-]+@[\w.:/~ -]{1,80}\]?[#$%]|[#$%])\s+")
_MAKES = re.compile(r"\b(?:postmap|postalias|newaliases|chmod|chown|vi|vim|nano|touch|rm|ls)\b")
_SHOWS = re.compile(r"\bpost(?:map|alias)\s+-[sq]\b")
_ASKED = re.compile(
    r"\bpost(?:map|alias)\s+-q\s+[\"']?([^\s\"']{1,255})[\"']?\s+[\"']?(?:[a-z]+:)?(/[\w./+-]{1,255})"
)
_INLINE = re.compile(
    r"(/[\w./+-]{1,255})`?[ \t]+(?:has|contains|reads|says|is|consists of)\b:?", re.ASCII
)
_QUOTED = re.compile(r"\"([^\"]{1,1000})\"|`([^`]{1,1000})`|'([^']{1,1000})'")
_ALIASES = re.compile(r"\balias(?:es)?(?: file| table| map)\b|^[*#= ]*aliases[ *]*:")
_DOVECOT = re.compile(r"\bdove(?:cot|conf) -n\b")
_NAMES_FILE = re.compile(r".*/(?:mailname|hostname)")
# Lines that entries of a table look like, so that a blank line does not end it.
_ENTRY = re.compile(
    r"\s*(?:[^\s@:]*@[\w.-]+\s+\S.*|/.{1,500}/\w*\s+\S.*|[\w.-]+:\s*\S.*|[\w-]+(?:\.[\w-]+)+\s+\S+.*"
    r"|\d+\.\d+\.[\d./]+\s+\S.*|[\[\w.:]+\]?/\d+\s+\S.*)"
)
_SENTENCE = re.compile(
    r"(?:^|\s)(?:the|is|but|it|I|to|that|this|and|when|then|what|with|have|has|does|any|you|we)"
    r"(?=[\s.,;:!?]|$)",
    re.IGNORECASE,
)
_WORDS_MAX = 40


def heading(line: str, named: Mapping[str, str]) -> str:
    """Return the path in a line that introduces a file's contents, or "".

    ``named`` are the paths that the settings name, each with its parameter. Of these the
    file's or the parameter's name is enough ("virtual:").
    """
    bare = line.strip()
    if not bare or len(bare) > _HEADING_MAX:
        return ""
    # A filter's output is lines of the file, too.
    command = _PROMPT.sub("", bare).partition(" | ")[0]
    found = [match[0] for match in _PATH.finditer(command) if match[0].startswith(_PLACES)]
    if not found:
        return _by_name(bare, named)
    path = found[-1].rstrip(".")
    is_made = _MAKES.search(command) and not (_SHOWS.search(command) or bare.endswith(":"))
    is_value = "=" in command.partition(path)[0].strip("= ") or _ASKED.search(command)
    if is_made or is_value:
        return ""
    is_banner = bare.startswith("#") and bare.endswith(path) and is_configuration(path)
    introduces = is_banner or bare.endswith((":", ":*", ":**", ":`", "->"))
    if introduces or command.startswith(("cat ", "sudo cat ")):
        return path
    words = [word.strip(_EDGES).lower() for word in command.replace(path, " ").split()]
    is_alone = len(found) == 1 and all(not word or word in _FILLERS for word in words)
    return path if is_alone else ""


def _by_name(bare: str, named: Mapping[str, str]) -> str:
    if bare.endswith(":") and _ALIASES.search(bare):
        return "/etc/aliases"
    if _DOVECOT.search(bare):
        return "/etc/dovecot/dovecot.conf"
    if bare.endswith(":") and (last := bare.rsplit(maxsplit=1)[-1].strip(_EDGES)) and "." in last:
        of_the_file = [path for path in named if path.endswith(f"/{last}")]
        if len(of_the_file) == 1:
            return of_the_file[0]
    word = bare.strip(_EDGES)
    if not word or " " in word or not (bare.endswith(":") or bare[0] in "#*=[`-"):
        return ""
    if bare.startswith("#") and not bare.endswith(":"):
        return ""
    matching = [
        path
        for path, parameter in named.items()
        if word in (path.rpartition("/")[2], parameter, parameter.removesuffix("_maps"))
    ]
    return matching[0] if len(matching) == 1 else ""


def is_log(path: str) -> bool:
    """Return True if a path is a log's."""
    return _LOGS.match(path) is not None


def is_of_postfix(path: str) -> bool:
    """Return True for main.cf and master.cf, also under the names that containers give them."""
    name = path.rpartition("/")[2]
    return "main.cf" in name or "master.cf" in name or name == "extra.cf"


def is_configuration(path: str) -> bool:
    """Return True for a file of name = value lines that is not main.cf."""
    return path.endswith((".cf", ".conf", ".ext", ".cnf", ".yml", ".yaml", ".env", ".ini", ".toml"))


def inline(line: str) -> Iterator[tuple[str, str]]:
    """Yield path and entry of each "/etc/postfix/virtual has 'a@b  c'" in a line."""
    found = [match for match in _INLINE.finditer(line) if match[1].startswith(_PLACES)]
    ends = [*(match.start() for match in found[1:]), len(line)]
    for match, end in zip(found, ends, strict=False):
        path, rest = match[1], line[match.end() : end]
        quoted = _QUOTED.search(rest)
        word = rest.split()[0].strip(".,;`\"'") if rest.split() else ""
        if quoted:
            yield path, next(filter(None, quoted.groups())).strip()
        elif _NAMES_FILE.fullmatch(path) and "." in word:
            yield path, word


def asked(line: str) -> tuple[str, str] | None:
    """Return path and key of a command "postmap -q KEY hash:PATH", or None."""
    found = _ASKED.search(line)
    return (found[2], found[1]) if found else None


def is_prompt(line: str) -> bool:
    """Return True if a line begins with a shell's prompt, as "root@mx:~# "."""
    return "@" in line and _PROMPT.match(f"{line.strip()} ") is not None


def is_entry(line: str, *, after_blank: bool) -> bool:
    """Return True if a line may belong to the table above it."""
    if line.lstrip().startswith("#"):
        return True
    if len(line.split(None, _WORDS_MAX)) > _WORDS_MAX:
        return False
    if _SENTENCE.search(line):
        return False
    return not after_blank or _ENTRY.fullmatch(line) is not None
