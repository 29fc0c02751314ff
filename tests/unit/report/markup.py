"""Tree of a page's elements, for tests."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser

VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())
# Tags at which a browser ends a paragraph.
BLOCKS = frozenset("details div dl figure form h2 h3 ol p section table ul".split())


class Element:
    def __init__(self, tag: str, attrs: dict[str, str], parent: Element | None) -> None:
        self.tag, self.attrs, self.parent = tag, attrs, parent
        self.parts: list[Element | str] = []

    def __getitem__(self, name: str) -> str:
        return self.attrs.get(name, "")

    @property
    def text(self) -> str:
        parts = (part if isinstance(part, str) else part.text for part in self.parts)
        return " ".join(" ".join(parts).split())

    @property
    def ancestors(self) -> Iterator[Element]:
        found = self.parent
        while found is not None:
            yield found
            found = found.parent

    @property
    def hidden(self) -> bool:
        """True if screen readers skip it."""
        return any(each["aria-hidden"] == "true" for each in (self, *self.ancestors))

    def all(self, *tags: str) -> list[Element]:
        """Return the elements inside, in the page's order; with these tags if any are given."""
        found = []
        for part in self.parts:
            if isinstance(part, Element):
                found += [part] if not tags or part.tag in tags else []
                found += part.all(*tags)
        return found

    def one(self, **attrs: str) -> Element:
        (found,) = (
            each
            for each in self.all()
            if all(value in each[name.strip("_")].split() for name, value in attrs.items())
        )
        return found


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = self.here = Element("document", {}, None)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"<{tag}> has an attribute twice: {names}"
        assert not (self.here.tag == "p" and tag in BLOCKS), f"<{tag}> in a <p>"
        element = Element(tag, {name: value or "" for name, value in attrs}, self.here)
        self.here.parts.append(element)
        if tag not in VOID:
            self.here = element

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.here.tag, f"</{tag}> ends <{self.here.tag}>, line {self.getpos()[0]}"
        assert self.here.parent is not None
        self.here = self.here.parent

    def handle_data(self, data: str) -> None:
        self.here.parts.append(data)


def parse(page: str) -> Element:
    """Return the tree of a page, and check that every element is closed correctly."""
    builder = _Builder()
    builder.feed(page)
    builder.close()
    assert builder.here is builder.root, f"<{builder.here.tag}> is never closed"
    return builder.root
