"""Two weeks of the daemon's decisions, by a script of FINRA's worst days; the year is `benchmarks/year.py`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from market_spine_tests.journeys.year_daemon import year
from market_spine_tests.journeys.year_oracle import Oracle
from market_spine_tests.journeys.year_script import Script
from market_spine_tests.journeys.year_verdict import Left, Verdict

pytestmark = [pytest.mark.slow, pytest.mark.extended]

WEEKS = """
# week      tier  what        from (New York)   until             # what it is meant to show
2025-02-14  OTC   late        2025-03-19 09:40                    # by days: after its deadline
2025-02-14  T1    restated    2025-03-18 16:00                    # told by nobody
2025-02-14  T1    reverted    2025-03-24 12:00                    # and back
all         -     down        2025-03-17 07:00  2025-03-18 07:00  # HTTP 503 on the first day of all
2025-02-14  T2    impossible  2025-03-18 15:00                    # trades without shares, until then
2025-02-28  T1    doubled                                         # three rows twice
2025-02-21  T2    columns     2025-03-24 06:00  2025-03-25 06:00  # another header for a day
2025-02-21  OTC   cut         2025-03-24 06:00  2025-03-24 15:00  # fewer rows than Record-Total says
2025-03-07  T1    late        2025-03-24 12:45                    # by hours
"""
OFF = ("2025-03-20 05:00", "2025-03-21 11:00")  # the platform, over a morning on which it would have looked


def test_two_weeks_without_hands(tmp_path: Path) -> None:
    """Prevents a week that is captured twice, late or never, certified too early or not at all, a fault that nobody is
    told of, noise about what is no fault, and anything that needs a person; and answers that nothing can contradict."""
    script = Script.of(WEEKS, "2025-03-16 18:00", "2025-03-26 16:00", "2025-02-14", OFF)
    with year(tmp_path / "home", script) as played:
        played.play()
        left = Left(played)
        assert Verdict(left, Oracle(script)).complaints() == []
        table = WEEKS.splitlines()
        for line in table[2:]:
            other = replace(script, text="\n".join(one for one in table if one != line))
            assert Verdict(left, Oracle(other)).against_the_script() != [], f"nothing shows of: {line}"
