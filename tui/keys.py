"""Keys: which there are, what they do, where, how they are written, and which a person may choose instead."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module

from textual.app import App
from textual.binding import Binding, BindingType
from textual.dom import DOMNode
from textual.screen import Screen

EVERYWHERE = "app"
"""The first part of the ids of bindings that work on every screen."""

_PLACES = {EVERYWHERE: "Everywhere"}
_NAMES = {
    "question_mark": "?", "slash": "/", "escape": "Esc", "enter": "Enter", "pageup": "PageUp", "pagedown": "PageDown",
    "space": "Space", "backspace": "Backspace", "delete": "Delete", "tab": "Tab", "up": "↑", "down": "↓", "left": "←",
    "right": "→", "plus": "+", "minus": "-", "comma": ",", "full_stop": ".", "left_square_bracket": "[",
    "right_square_bracket": "]", "less_than_sign": "<", "greater_than_sign": ">", "equals_sign": "=",
}  # fmt: skip
_ALIKE = {"ctrl+i": "Tab", "ctrl+m": "Enter", "ctrl+j": "a line break", "ctrl+h": "Backspace", "ctrl+@": "Ctrl+Space"}
_FIXED = {"enter", "tab", "shift+tab", "escape", "backspace", "up", "down", "left", "right", "ctrl+c"}


@dataclass(frozen=True)
class BoundKey:
    """What one binding does, and which keys do it now."""

    id: str
    description: str
    default_keys: str
    """With commas between, as Textual takes them."""
    keys: str
    help: str = ""

    @property
    def where(self) -> str:
        """The screen that it belongs to."""
        return place(self.id)

    @property
    def is_changed(self) -> bool:
        return self.keys != self.default_keys

    @property
    def label(self) -> str:
        """The keys as people write them."""
        return label(self.keys)


def place(binding_id: str) -> str:
    """Return the name of the screen that a binding belongs to."""
    first = binding_id.partition(".")[0]
    return _PLACES.get(first, first.replace("_", " ").capitalize())


def label(keys: str) -> str:
    """Return keys as people write them: "Ctrl+N", several with "or" between."""
    return " or ".join(_label(key) for key in keys.split(","))


def bindings_of(bindings: Iterable[BindingType], keymap: Mapping[str, str]) -> Iterator[BoundKey]:
    """Yield what a class's `BINDINGS` bind, those with an id, once each."""
    made: dict[str, list[Binding]] = {}
    for binding in Binding.make_bindings(bindings):
        if binding.id is not None:
            made.setdefault(binding.id, []).append(binding)
    for name, several in made.items():
        defaults = ",".join(dict.fromkeys(binding.key for binding in several))
        first = several[0]
        yield BoundKey(name, first.description or name, defaults, keymap.get(name, defaults), first.tooltip)


def all_bindings(keymap: Mapping[str, str]) -> list[BoundKey]:
    """Return every binding of the interface. Imports all its modules, which takes some 100 ms: call it on a thread."""
    found: dict[str, BoundKey] = {}
    for node in _nodes():
        for bound in bindings_of(node.__dict__.get("BINDINGS", ()), keymap):
            found.setdefault(bound.id, bound)
    return sorted(found.values(), key=lambda bound: (bound.id.partition(".")[0] != EVERYWHERE, bound.where))


def bindings_here(screen: Screen[object], keymap: Mapping[str, str]) -> list[tuple[DOMNode, Binding, BoundKey]]:
    """Return what can be done on a screen now, the focused widget's first, and then everywhere: nodes and bindings."""
    focused = list(screen.focused.ancestors_with_self) if screen.focused else []
    found: dict[str, tuple[DOMNode, Binding, BoundKey]] = {}
    # A long conversation has thousands of widgets of a few kinds: the first one of each kind stands for all.
    kinds: dict[type[DOMNode], DOMNode] = {}
    for node in (*focused, *screen.walk_children(), screen, screen.app):
        if isinstance(node, Screen | App) or node.display:
            kinds.setdefault(type(node), node)
    for kind, node in kinds.items():
        for binding, bound in _own_bindings(kind, keymap):
            if bound.id not in found and screen.app._check_action_state(binding.action, node):
                found[bound.id] = (node, binding, bound)
    return list(found.values())


def _own_bindings(kind: type[DOMNode], keymap: Mapping[str, str]) -> Iterator[tuple[Binding, BoundKey]]:
    for cls in kind.__mro__:
        bindings = cls.__dict__.get("BINDINGS", ())
        firsts = {binding.id: binding for binding in reversed([*Binding.make_bindings(bindings)])}
        for bound in bindings_of(bindings, keymap):
            yield firsts[bound.id], bound


def clashes(keys: str, bound: BoundKey, known: Iterable[BoundKey]) -> list[BoundKey]:
    """Return the other bindings that have one of these keys and could be meant in the same place."""
    pressed = set(keys.split(","))
    places = {bound.where, _PLACES[EVERYWHERE]}
    return [
        other
        for other in known
        if other.id != bound.id
        and pressed & set(other.keys.split(","))
        and (other.where in places or bound.where == _PLACES[EVERYWHERE])
    ]


def refusal(key: str, bound: BoundKey) -> str | None:
    """Return why a key cannot be had for a binding; None if it can."""
    if key in _ALIKE:
        return f"Terminals cannot tell {label(key)} from {_ALIKE[key]}."
    if key in _FIXED and key not in bound.default_keys.split(","):
        return f"{label(key)} is needed for moving about."
    types = "+" not in key and not _is_named(key)
    if types and all("+" in own or _is_named(own) for own in bound.default_keys.split(",")):
        return f"{label(key)} alone would be typed as text. Add Ctrl or Alt, or take a function key."
    return None


def _is_named(key: str) -> bool:
    """Whether it is a key such as f5, which types nothing."""
    return key in _FIXED or key in ("delete", "insert", "home", "end", "pageup", "pagedown") or key[1:].isdecimal()


def _label(key: str) -> str:
    *modifiers, last = key.split("+")
    name = _NAMES.get(last) or (last.upper() if (len(last) == 1 and modifiers) or last[1:].isdecimal() else last)
    name = name if len(name) == 1 or name in _NAMES.values() else name[:1].upper() + name[1:]
    return "+".join([*(modifier.capitalize() for modifier in modifiers), name])


def _nodes() -> Iterator[type[DOMNode]]:
    """Yield every class of ours that may bind keys, in a fixed order."""
    import tui

    for module_info in pkgutil.walk_packages(tui.__path__, "tui."):
        if module_info.name.endswith("__main__"):
            continue
        module = import_module(module_info.name)
        for _, cls in inspect.getmembers(module, inspect.isclass):
            if issubclass(cls, DOMNode) and cls.__module__ == module.__name__:
                yield cls
