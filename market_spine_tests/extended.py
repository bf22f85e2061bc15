"""Cases of a table that `make test` leaves to `make test-extended`."""

from __future__ import annotations

from typing import Any

import pytest


def extended(*values: object, when: bool = True, name: str | None = None) -> Any:
    """A case for `parametrize`, marked ``extended`` where ``when`` holds."""
    return pytest.param(*values, marks=[pytest.mark.extended] if when else [], id=name)
