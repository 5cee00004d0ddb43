"""YAML within bounds, with the line of each key. Pure."""

from __future__ import annotations

from typing import Any

import yaml

from supervisor_app.importing.found import ImportMistakeError

MOST_NODES = 100_000
"""Values with each alias counted as often as it stands: a bomb of a kilobyte has billions."""
KeyPath = tuple[str, ...]


class Yaml:
    """A YAML text whose top is a mapping: its data, and where its keys stand."""

    def __init__(self, text: str) -> None:
        """Raises ImportMistakeError."""
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            if not isinstance(node, yaml.MappingNode):
                raise ImportMistakeError(
                    "It is of no known kind, nor are there keys with values in it as in YAML."
                )
            if _size(node, {}) > MOST_NODES:
                raise ImportMistakeError(
                    f"The YAML has more than {MOST_NODES} values once aliases are replaced."
                )
            self._lines: dict[KeyPath, int] = {}
            self._walk(node, ())
            self.data: dict[Any, Any] = yaml.safe_load(text)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = f"line {mark.line + 1}: " if mark else ""
            raise ImportMistakeError(f"{line}this is no YAML: {error.problem or error.context}.") from error
        except (yaml.YAMLError, ValueError) as error:
            if isinstance(error, ImportMistakeError):
                raise
            raise ImportMistakeError(f"This is no YAML: {error}.") from error
        except RecursionError:
            raise ImportMistakeError("The YAML is nested too deeply.") from None

    def line(self, *path: str) -> int:
        """Return the line of a key, else of what it stands in."""
        for length in range(len(path), 0, -1):
            if path[:length] in self._lines:
                return self._lines[path[:length]]
        return 1

    def where(self, *path: str) -> str:
        return f"line {self.line(*path)}: {'.'.join(path)}"

    def mapping(self, *path: str) -> dict[str, Any]:
        """Return the mapping at a path; empty if there is none. Raises ImportMistakeError."""
        value: Any = self.data
        for part in path:
            value = {str(key): inner for key, inner in value.items()}.get(part) or {}
            if not isinstance(value, dict):
                raise ImportMistakeError(f"{self.where(*path)}: it must be a mapping.")
        return {str(key): inner for key, inner in value.items()}

    def _walk(self, node: yaml.MappingNode, path: KeyPath) -> None:
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ImportMistakeError(f"line {key.start_mark.line + 1}: a key must be text.")
            here = (*path, str(key.value))
            if here in self._lines and key.value != "<<":
                first, again = self._lines[here], key.start_mark.line + 1
                raise ImportMistakeError(f"line {again}: {'.'.join(here)} was set before, in line {first}.")
            self._lines[here] = key.start_mark.line + 1
            if isinstance(value, yaml.MappingNode) and key.value != "<<":
                self._walk(value, here)


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Return how many values the node has. An alias to what it stands in counts as too many."""
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = MOST_NODES + 1
    if isinstance(node, yaml.MappingNode):
        size = 1 + sum(_size(key, known) + _size(value, known) for key, value in node.value)
    elif isinstance(node, yaml.SequenceNode):
        size = 1 + sum(_size(value, known) for value in node.value)
    else:
        size = 1
    known[id(node)] = size
    return size
