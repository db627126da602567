"""Text without what must stay secret, for logs, terminals and what leaves this machine."""

import re

HIDDEN = "(hidden)"

_SECRET = re.compile(
    r"(key|token|secret|passw[a-z]*|credential|auth_string|auth)s?$|^warehouse_url$", re.IGNORECASE
)
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+(?=@)")
# A name and its value, of TOML or YAML, wherever in a line it stands.
_ENTRY = re.compile(
    r"""(?P<name>[\w.-]+)(?P<between>["']?[ \t]*[=:][ \t]*)"""
    r"""(?P<value>"[^"\n]*"|'[^'\n]*'|\[[^\]]*\]|[^\s,{}\[\]#"'=:][^,{}\n#]*)"""
)
_NO_SECRET = re.compile(r"[\d_.+-]+|true|false|null|~", re.IGNORECASE)


def without_logins(text: str) -> tuple[str, int]:
    """Text in which users and passwords in addresses hide.

    Returns:
        The text, and how many were hidden.
    """
    return _CREDENTIALS.subn(HIDDEN, text)


def without_secrets(text: str) -> tuple[str, int]:
    """Text of a settings file in which values named like secrets, and passwords in addresses, hide.

    A name that ends in ``_env`` holds the name of a variable, which is no secret.

    Returns:
        The text, and how many values were hidden.
    """
    hidden = 0

    def hide(found: re.Match[str]) -> str:
        nonlocal hidden
        value = found["value"].strip()
        if not _SECRET.search(found["name"]) or _NO_SECRET.fullmatch(value):
            return found[0]
        hidden += 1
        return f'{found["name"]}{found["between"]}"{HIDDEN}"'

    shown = _ENTRY.sub(hide, text)
    shown, more = without_logins(shown)
    return shown, hidden + more
