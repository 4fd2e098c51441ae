"""Settings of main.cf in the forms in which people write them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# postconf(5): most names have an underscore, these have none.
PLAIN_NAMES = {
    "biff", "mydestination", "mydomain", "myhostname", "mynetworks", "myorigin", "relayhost",
}  # fmt: skip
# How the names of Postfix's parameters begin, for forms that other programs share.
_FAMILIES = (
    r"(?:smtpd?|lmtp|virtual|relay|local|mail|mailbox|message|alias|transport|sender|recipient"
    r"|header|body|mime|nested|tls|milter|non_smtpd|postscreen|content|default|inet|canonical"
    r"|compatibility|bounce|queue|maximal|minimal|always|append|masquerade|unknown|unverified"
    r"|address_verify|permit_mx|mynetworks|parent_domain|fallback|home|soft|strict|disable|enable"
    r"|delay|notify|double_bounce|proxy|swap|smtputf8|propagate|luser|allow|debug)_[a-z0-9_]+"
)
_ANY_CASE_NAME = re.compile(rf"(?:{_FAMILIES}|{'|'.join(sorted(PLAIN_NAMES))})", re.IGNORECASE)
_EXPORTED = re.compile(
    r"[ \t]*(?:[\w./-]{0,255}main\.cf(?:\.\w{1,20})?(?::\d{1,6})?[:-]|\+(?!\+)"
    r"|\d{1,5}(?::|[ \t]{1,4})(?=\w{3,}[ \t]*=))[ \t]*"
)
_EQUALS = re.compile(r"([a-z0-9][A-Za-z0-9_-]{0,99})([ \t]{0,100})=(?!=)([ \t]*)(.*)", re.ASCII)
_ITEM = re.compile(r"[ \t]*[-*•][ \t]+(?=\w|\"|'|`)")
_ENVIRONMENT = re.compile(
    r"(?:export |set |-e )?[\"']?(?:POSTFIX|POSTCONF|PF|OVERRIDE)_+([A-Za-z]\w{1,99})[\"']?"
    r"[ \t]*[=:][ \t]*(.*)",
    re.ASCII,
)
_YAML = re.compile(r"[\"']?([a-z]\w{1,99})[\"']?:[ \t]+(\S.*)", re.ASCII)
_COLUMNS = re.compile(r"\|?[ \t]*([a-z]\w{1,99})[ \t]*\|[ \t]*([^|]*?)[ \t]*\|?", re.ASCII)
_POSTCONF = re.compile(
    r"\bpostconf(?:[ \t]+-[cev]+(?:[ \t]+/\S+)?)*[ \t]+(?=[\"']?[a-z]\w*[ \t]*=)"
)
_SHELL_WORD = re.compile(r"\"((?:[^\"\\]|\\.)*)\"|'([^']*)'|([^\s\"']+)")
_CALL = re.compile(
    r"[ \t]*[\w.-]+[ \t]+[\"']([a-z]\w{1,99})[\"'][ \t]+[\"']([^\"']*)[\"'][ \t]*", re.ASCII
)
_IN_BACKQUOTES = re.compile(r"`([a-z]\w{1,99}[ \t]?=[ \t]?[^`]{0,1000})(?:`|$)", re.ASCII)
# postconf(1) -P prints "service/type/parameter = value".
_OF_A_SERVICE = re.compile(
    r"[ \t]*(\S{1,255}/(?:inet|unix|unix-dgram|fifo|pass))/([a-z]\w{1,99})[ \t]*=[ \t]*(.*)"
)
_EMPTY = re.compile(
    r"[ \t]*`?([a-z]\w{1,99})`?[ \t]+is[ \t]+(?:left[ \t]+|set[ \t]+to[ \t]+be[ \t]+)?empty\.?"
    r"[ \t]*",
    re.ASCII,
)
_MAY_HAVE_ONE = re.compile(r"[=:|\"']|\bempty\b")
# Words of a sentence, which no list of restrictions, names or files has.
_SENTENCE = re.compile(
    r"(?:^|\s)(?:in|the|is|but|it|to|mends|helps|does|so|which|that|this|because|when|then|should"
    r"|was|are|for|my|I|we|not|doesn't|didn't|work|works|instead|of|also)(?=[\s.,;:!?]|$)"
)
# Their values are texts or commands.
_TEXTS = re.compile(
    r".*(?:banner|_text|_command|_reply|_template|_footer|mail_name|import_\w+|_program)"
)


@dataclass(frozen=True)
class Setting:
    """A setting as read; ``service`` is "name/type" for one of master.cf (postconf -P).

    ``is_hint`` if its form is another program's, so that any other form counts before it.
    """

    name: str
    value: str
    form: str
    service: str = ""
    is_hint: bool = False


def read(text: str, *, among: bool = False) -> Iterator[Setting]:
    """Yield the settings of one line; ``among`` if it stands below another setting."""
    if not _MAY_HAVE_ONE.search(text):
        return
    if found := _OF_A_SERVICE.fullmatch(text):
        yield Setting(found[2], found[3].strip(), "postconf -P", service=found[1])
        return
    for reader in (
        _equals,
        _exported,
        _item,
        _environment,
        _postconf,
        _call,
        _yaml,
        _columns,
        _sentence,
    ):
        settings = [one for one in reader(text, among=among) if not _is_prose(one)]
        if settings:
            yield from settings
            return
    for quoted in _IN_BACKQUOTES.finditer(text):
        yield from _equals(quoted[1], among=True, form="in backquotes")


def is_prose(text: str) -> bool:
    """Return True if a line looks like a setting but is a sentence."""
    return any(_is_prose(setting) for setting in _equals(text.strip(), among=True))


def _is_prose(setting: Setting) -> bool:
    if _TEXTS.fullmatch(setting.name) or setting.value.startswith(("{", '"')):
        return False
    value = setting.value.partition("#")[0].partition("$")[0][:500]
    return _SENTENCE.search(value) is not None


def _equals(text: str, *, among: bool, form: str = "name = value") -> Iterator[Setting]:
    found = _EQUALS.fullmatch(text.strip())
    if not found:
        return
    name, before, after, value = found.groups()
    # postconf(1) puts white space around "=", whatever the parameter's name.
    if "_" in name or name in PLAIN_NAMES or (among and before and (after or not value)):
        yield Setting(name, value.strip(), form)


def _exported(text: str, *, among: bool) -> Iterator[Setting]:
    if found := _EXPORTED.match(text):
        form = "diff" if text.lstrip().startswith("+") else "grep"
        yield from _equals(text[found.end() :], among=among, form=form)


def _item(text: str, *, among: bool) -> Iterator[Setting]:
    del among
    if found := _ITEM.match(text):
        rest = text[found.end() :].strip("`\"' ")
        yield from _equals(rest, among=False, form="list")
        yield from _environment(rest, among=False)


def _environment(text: str, *, among: bool) -> Iterator[Setting]:
    del among
    found = _ENVIRONMENT.fullmatch(text.strip())
    if not found:
        return
    name, value = found[1].lower(), _unquoted(found[2])
    is_known = _ANY_CASE_NAME.fullmatch(name) or (name == found[1] and "_" in name)
    if is_known and not value.startswith("${"):
        yield Setting(name, value, "environment", is_hint=name != found[1])


def _postconf(text: str, *, among: bool) -> Iterator[Setting]:
    del among
    if not (found := _POSTCONF.search(text)):
        return
    rest = text[found.end() :].strip()
    words = [match[1] or match[2] or match[3] or "" for match in _SHELL_WORD.finditer(rest)]
    if words and not words[0].startswith(("'", '"')) and rest[0] not in "\"'":
        # Without quotes the shell splits at blanks; the writer meant one setting.
        words = [rest] if rest.count("=") == 1 else words
    for word in words:
        yield from _equals(_unquoted(word), among=False, form="postconf command")


def _call(text: str, *, among: bool) -> Iterator[Setting]:
    del among
    found = _CALL.fullmatch(text)
    if found and _ANY_CASE_NAME.fullmatch(found[1]):
        yield Setting(found[1], found[2], "script")


def _yaml(text: str, *, among: bool) -> Iterator[Setting]:
    del among
    found = _YAML.fullmatch(text.strip())
    if found and _ANY_CASE_NAME.fullmatch(found[1]):
        yield Setting(found[1], _unquoted(found[2]), "YAML")


def _columns(text: str, *, among: bool) -> Iterator[Setting]:
    del among
    if "|" not in text:
        return
    found = _COLUMNS.fullmatch(text.strip())
    if found and _ANY_CASE_NAME.fullmatch(found[1]):
        yield Setting(found[1], found[2].strip("`"), "table")


def _sentence(text: str, *, among: bool) -> Iterator[Setting]:
    del among
    found = _EMPTY.fullmatch(text)
    if found and _ANY_CASE_NAME.fullmatch(found[1]):
        yield Setting(found[1], "", "sentence")


def _unquoted(value: str) -> str:
    value = value.strip().removesuffix(",")
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value
