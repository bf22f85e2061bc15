"""One folder per weekly feed: what is true of that feed only. Code that another feed also needs lives elsewhere."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from market_spine.domain.contracts import Feed
from market_spine.domain.errors import SpineError


def load_feeds() -> tuple[Feed, ...]:
    """The FEED of every folder here, by name; a folder without one is an error, never skipped."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    if not names:
        raise SpineError(f"{__name__} holds no feeds", "reinstall the package: its files are missing")
    found = []
    for name in names:
        feed = getattr(import_module(f"{__name__}.{name}"), "FEED", None)
        if not isinstance(feed, Feed) or feed.name != name:
            raise SpineError(f"{__name__}.{name} defines no feed {name!r}", f"define FEED = Feed(name={name!r}, ...)")
        found.append(feed)
    return tuple(found)
