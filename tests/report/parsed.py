"""A page as a parser sees it."""

from __future__ import annotations

from html.parser import HTMLParser

_VOID = {"meta", "input"}


class Element:
    """An element and its attributes."""

    def __init__(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tag = tag
        self.attributes = {name: value or "" for name, value in attributes}
        self.parts: list[str] = []

    @property
    def text(self) -> str:
        """All the text in it."""
        return "".join(self.parts)


class Page(HTMLParser):
    """What is on a page.

    Attributes:
        elements: All elements, in their order.
        others: Comments, declarations and the like, other than the first one.
        unbalanced: Tags that are not closed, or close what is not open.
    """

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[Element] = []
        self.others: list[str] = []
        self.unbalanced: list[str] = []
        self._open: list[Element] = []
        self.feed(text)
        self.close()
        self.unbalanced += [element.tag for element in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        self.handle_startendtag(tag, attrs)
        if tag not in _VOID:
            self._open.append(self.elements[-1])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element that has nothing in it."""
        self.elements.append(Element(tag, attrs))

    def handle_endtag(self, tag: str) -> None:
        """An element ends."""
        if self._open and self._open[-1].tag == tag:
            self._open.pop()
        else:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        """Text: it is in all elements that are open."""
        for element in self._open:
            element.parts.append(data)

    def handle_comment(self, data: str) -> None:
        """A comment."""
        self.others.append(data)

    def unknown_decl(self, data: str) -> None:
        """A declaration that HTML does not have."""
        self.others.append(data)

    def handle_pi(self, data: str) -> None:
        """A processing instruction."""
        self.others.append(data)

    def all(self, tag: str, *, class_: str = "", **attributes: str) -> list[Element]:
        """All elements with that tag, this class among theirs, and these attributes."""
        return [
            element
            for element in self.elements
            if element.tag == tag
            and (not class_ or class_ in element.attributes.get("class", "").split())
            and all(element.attributes.get(name) == value for name, value in attributes.items())
        ]

    def one(self, tag: str, *, class_: str = "", **attributes: str) -> Element:
        """The only one of them."""
        (element,) = self.all(tag, class_=class_, **attributes)
        return element


class _Back(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[bytes] = []
        self._is_picture = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._is_picture = tag == "i"
        for name, value in attrs:
            if name == "data-c":
                self.parts.append(chr(int(value or "", 16)).encode("utf-8", "surrogatepass"))
            if name == "data-b":
                self.parts.append(bytes([int(value or "", 16)]))

    def handle_endtag(self, tag: str) -> None:
        self._is_picture = self._is_picture and tag != "i"

    def handle_data(self, data: str) -> None:
        if not self._is_picture:
            self.parts.append(data.encode())


def taken_back(html: str) -> bytes:
    """The bytes that a text on the page was made of: its odd characters are taken back from their elements."""
    return b"".join(_Back(html).parts)
