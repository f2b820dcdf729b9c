"""HTML as a tree: what is put into it as text stays text, whoever chose it."""

from typing import Final, TypeAlias
from xml.etree import ElementTree as ET

from mirror.logs import printable

THIN_SPACE: Final = "\N{NARROW NO-BREAK SPACE}"  # harmless, though Python does not print it

Element: TypeAlias = ET.Element
Child: TypeAlias = Element | str | None


def element(tag: str, /, *children: Child, **attributes: str) -> Element:
    """An element; text is made printable, None is nothing.

    `class_` is the attribute "class"; `_` in other names is `-`.
    """
    made = ET.Element(tag, {_attribute(name): value for name, value in attributes.items()})
    for child in children:
        if isinstance(child, Element):
            made.append(child)
        elif child:
            _add_text(made, _shown(child))
    return made


def source(tag: str, text: str) -> Element:
    """A style or a script, which browsers do not unescape."""
    made = ET.Element(tag)
    made.text = text
    return made


def as_html(page: Element) -> str:
    """The document."""
    return f"<!doctype html>\n{ET.tostring(page, encoding='unicode', method='html')}\n"


def _attribute(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


def _shown(text: str) -> str:
    return THIN_SPACE.join(map(printable, text.split(THIN_SPACE)))


def _add_text(made: Element, text: str) -> None:
    if len(made):
        made[-1].tail = (made[-1].tail or "") + text
    else:
        made.text = (made.text or "") + text
