"""Counting what runs set aside."""

from __future__ import annotations

from dataclasses import replace

from market_spine.store.commit import commit
from market_spine.store.rejects import count_by_table
from market_spine.store.store import Store
from market_spine_tests.store.builders import DERIVED, RAW, RUN, batch, raw, reject


def test_rejects_are_counted_per_table_and_run(store: Store) -> None:
    """Prevents rejects of earlier runs from being told as this one's, and tables that share one count."""
    other = replace(RUN, execution_id="run-2")
    commit(store.control, store.home, batch(raw(), rejects=[reject(2), reject(3), reject(2, table_name=DERIVED)]))
    later = [reject(7, source_id="3" * 64)]
    commit(store.control, store.home, batch(raw(seconds=9, content="b"), run=other, rejects=later))
    with store.control.read() as connection:
        assert count_by_table(connection, ["run-1"]) == {RAW: 2, DERIVED: 1}
        assert count_by_table(connection, ["run-1", "run-2"]) == {RAW: 3, DERIVED: 1}
        assert count_by_table(connection, []) == {}
