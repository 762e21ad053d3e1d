"""Foreign text on the page: it stays text, and what would not be seen, or would deceive, is made visible."""

from __future__ import annotations

import re
from dataclasses import dataclass

from markupsafe import Markup, escape

# Control characters but tab and line feed; the soft hyphen; everything that turns the direction of writing or takes no
# room, and the letters of tags, in which text can be hidden; halves of characters, and bytes that are no UTF-8. The
# two joiners stay: without them many a script and emoji is not what it was.
_ODD = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)
_BYTE = range(0xDC80, 0xDD00)
"""What `surrogateescape` makes of the bytes 0x80 to 0xff."""


_NAMES = (
    "NUL SOH STX ETX EOT ENQ ACK BEL BS HT LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US"
)
_NAMED = {**dict(enumerate(_NAMES.split())), 0x7F: "DEL"}


def picture(character: str) -> str:
    r"""How an odd character is shown: `⟨ESC⟩` by its name, `⟨U+202E⟩` by its code, `⟨\xff⟩` as a byte.

    Unicode has pictures of the first ones, but many fonts have not.
    """
    code = ord(character)
    return f"⟨\\x{code - 0xDC00:02x}⟩" if code in _BYTE else f"⟨{_NAMED.get(code, f'U+{code:04X}')}⟩"


def plain(text: str) -> str:
    """The text with pictures of its odd characters: for attributes, and for all that nothing else is said of."""
    return _ODD.sub(lambda found: picture(found[0]), text)


def marked(text: str) -> Markup:
    """The text as HTML, its odd characters set apart in elements from which a script can take them back.

    `<i data-c="202e">` is a character by its code, `<i data-b="ff">` a byte that is no UTF-8.
    """
    return Markup(_ODD.sub(_mark, str(escape(text))))  # noqa: S704  # escaped


def _mark(found: re.Match[str]) -> str:
    code = ord(found[0])
    which = f'b="{code - 0xDC00:x}"' if code in _BYTE else f'c="{code:x}"'
    return f"<i data-{which}>{picture(found[0])}</i>"


def brief(text: str, most: int = 200) -> str:
    """The text, or its beginning and how much more there is, for what is short unless somebody means harm."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most:,} more characters)"


def unix(text: str) -> str:
    """The text with the line ends of Unix: in prose, others mean nothing."""
    return text.replace("\r\n", "\n")


@dataclass(frozen=True)
class Cut:
    """The beginning of a text, as HTML; `more` is how many characters there would have been after it."""

    html: Markup
    more: int = 0

    def __bool__(self) -> bool:
        """Whether there is any text."""
        return bool(self.html)


def cut(text: str, most: int) -> Cut:
    """As much of the text as fits into `most` characters of HTML, which may be several for one of the text."""
    length = min(len(text), most)
    html = marked(text[:length])
    while len(html) > most:
        length = min(length - 1, length * most // len(html))
        html = marked(text[:length])
    return Cut(html, len(text) - length)
