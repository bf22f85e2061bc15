"""Policy files: YAML of plain values, one list of rows, each row a frozen dataclass; every mistake is a PolicyError.

What belongs here: what is wrong with a file whatever it is about: not YAML, keys that are twice, unknown or missing,
values of another type. What does not: what the values mean (`policy`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

from market_spine.domain.errors import PolicyError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable
    from pathlib import Path

Row = TypeVar("Row")
UNKNOWN = "unexpected_keyword_argument"  # pydantic's word


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A file as errors name it (``shown``), its one key (``section``), and the shipped file that explains the rest."""

    shown: str
    section: str
    example: str

    def error(self, cause: str, remedy: str) -> PolicyError:
        return PolicyError(f"{self.shown}: {cause}", f"{remedy}; {self.example} explains every key")

    def rows(self, source: Path | Traversable, kind: type[Row]) -> tuple[Row, ...]:
        """The rows that ``source`` holds, as ``kind``, whose types are taken strictly."""
        from pydantic import TypeAdapter, ValidationError

        content = self._content(source)
        try:
            # As JSON: only there does strict mean no text for a number, and still a list for a tuple, text for an Enum.
            rows = TypeAdapter(list[kind]).validate_json(  # type: ignore[valid-type]  # a type made at run time
                json.dumps(content), strict=True, extra="forbid"
            )
        except ValidationError as error:
            # A key with a typing error is unknown, and the one that was meant is missing: the first is the mistake.
            found = min(error.errors(), key=lambda one: one["type"] != UNKNOWN)
            raise self._refusal(content, dict(found), kind) from error
        return tuple(rows)

    def _content(self, source: Path | Traversable) -> list[Any]:
        import yaml

        try:
            text = source.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise self.error(f"it cannot be read: {error}", "write it, or name another file") from error
        try:
            content = yaml.safe_load(text)
            json.dumps(content, allow_nan=False)  # refuses dates, sets and loops
            twice = list(repeated_keys(yaml.compose(text, Loader=yaml.SafeLoader)))
        except (yaml.YAMLError, TypeError, ValueError) as error:
            raise self.error(f"it is not YAML of plain values: {' '.join(str(error).split())}", "mend it") from error
        if twice:
            raise self.error(f"{twice[0]} is there twice", "keep one of them")
        if not isinstance(content, dict) or list(content) != [self.section]:
            raise self.error(f"{self.section} must be its one key", f"begin with {self.section}:")
        rows = content[self.section]
        if not isinstance(rows, list) or not rows:
            raise self.error(f"{self.section} is not a list of rows", "write at least one row, beginning with -")
        return rows

    def _refusal(self, content: list[Any], found: dict[str, Any], kind: type[Any]) -> PolicyError:
        """What pydantic found, in the words of the file."""
        number, *keys = found["loc"] or (0,)
        place = f"{self.section}[{_name(content[number]) or number + 1}]" + "".join(f".{key}" for key in keys)
        if found["type"] == UNKNOWN:
            return self.error(f"{place}: unknown key", f"known keys: {', '.join(one.name for one in fields(kind))}")
        if found["type"] == "missing":
            return self.error(f"{place}: missing", f"add {keys[-1]}")
        return self.error(f"{place}: {found['msg']}, not {found['input']!r}", "write what the key asks for")


def _name(row: Any) -> Any:
    return row.get("pipeline") or row.get("name") if isinstance(row, dict) else None


def repeated_keys(node: Any) -> Iterator[str]:
    """Every key that a mapping has twice, with its line; YAML would keep the last one without a word."""
    if node is None or isinstance(node.value, str):
        return
    names: set[str] = set()
    for item in node.value:
        key, child = item if isinstance(item, tuple) else (None, item)
        if key is not None and key.value in names:
            yield f"line {key.start_mark.line + 1}: {key.value}"
        names.update(() if key is None else (str(key.value),))
        yield from repeated_keys(child)
