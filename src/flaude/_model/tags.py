"""Tags that people can read: short slugs of values, and numbers where two are equal."""

from __future__ import annotations

import re
from collections.abc import Sequence

LONGEST = 60
"""Characters of a slug: it stands in lines of a terminal, in branch names and in file names."""

_CREDENTIALS = re.compile(r"://[^\s]*@")
_QUERY = re.compile(r"[?#].*", re.DOTALL)
_SCP_LIKE = re.compile(r"[\w.-]+@[\w.-]+:\S+")


def slug(text: str) -> str:
    """`text` as a part of a tag: letters, digits, `_`, `.` and `-`; may be empty.

    An address becomes its last part without `.git`, a path keeps its parts: `https://github.com/org/api.git` is `api`,
    `src/auth/login.py` is `src-auth-login.py`. It may end a branch name as it is.
    """
    text = text.strip()
    if "://" in text or _SCP_LIKE.fullmatch(text):
        address = _QUERY.sub("", _CREDENTIALS.sub("://", text)).rstrip("/").removesuffix(".git").rstrip("/")
        text = re.split(r"[/:]", address)[-1]
    text = re.sub(r"[^\w.]+", "-", text)
    # Git's rules for branches: no "..", no dot at either end of a part, no ".lock" at its end.
    text = re.sub(r"\.{2,}", ".", text)
    return re.sub(r"\.lock$", "-lock", text[:LONGEST].strip("-."))


def numbered(tags: Sequence[str]) -> list[str]:
    """The tags, all different: the first of equal ones stays, the next are `-2`, `-3` and so on.

    A number that would make it another row's own tag is left out.
    """
    own, taken, last = set(tags), set[str](), dict[str, int]()
    unique: list[str] = []
    for tag in tags:
        made = tag
        while made in taken or (made != tag and made in own):
            last[tag] = last.get(tag, 1) + 1
            made = f"{tag}-{last[tag]}"
        taken.add(made)
        unique.append(made)
    return unique
