"""Fixtures of the business record: it is kept in the control database, so they are the store's."""

from __future__ import annotations

from market_spine_tests.store.conftest import control_url, sqlite_store, store

__all__ = ["control_url", "sqlite_store", "store"]
