"""Words of what is served to programs: scopes of tokens, versions of data, and who uses what.

What belongs here: these words and rules, over plain values. What does not: tokens and uses themselves (`governance`),
and answering (`api`, `cli`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from enum import StrEnum


class Scope(StrEnum):
    """What the holder of a token may do; each includes the ones before it."""

    READ = "read"  # every answer about data
    OPERATE = "operate"  # ask for work, try it again, cancel it; resolve anomalies
    ADMIN = "admin"  # see who used what

    def covers(self, other: Scope) -> bool:
        """Whether this one is enough where ``other`` is asked for."""
        return list(Scope).index(self) >= list(Scope).index(other)


class Via(StrEnum):
    """The door through which data was used."""

    API = "api"
    COMMAND = "command"


def data_version(capture_ids: Iterable[str], definition: str = "") -> str:
    """The name of a set of captures, and of the ``definition`` of the view over them: 32 hexadecimal digits, the same
    for the same captures in whatever order.

    Captures never change, so that whoever asks again with the same version gets the same rows.
    """
    ids = sorted(set(capture_ids))
    text = "\n".join([*ids, *([definition] if ids and definition else [])])
    return hashlib.sha256(text.encode()).hexdigest()[:32]
