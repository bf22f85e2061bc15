"""Five weeks of the daemon's decisions, by a script of FINRA's worst days; the year is `benchmarks/year.py`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from market_spine_tests.journeys.year_daemon import year
from market_spine_tests.journeys.year_oracle import Oracle
from market_spine_tests.journeys.year_script import Script
from market_spine_tests.journeys.year_verdict import Left, Verdict

pytestmark = pytest.mark.slow

WEEKS = """
# week      tier  what        from (New York)   until             # what it is meant to show
2025-02-07  OTC   late        2025-03-12 09:40                    # by days; the clocks went forward on 03-09
2025-02-07  T2    restated    2025-03-14 12:00                    # told by nobody
2025-02-07  T2    reverted    2025-03-21 12:00                    # and back
all         -     down        2025-03-17 07:00  2025-03-18 07:00  # HTTP 503 for a day
2025-02-14  T2    impossible  2025-03-18 15:00                    # trades without shares, until then
2025-02-14  OTC   doubled                                         # three rows twice
2025-02-21  T2    columns     2025-03-24 06:00  2025-03-25 06:00  # another header for a day
2025-02-21  OTC   cut         2025-03-24 06:00  2025-03-24 15:00  # fewer rows than Record-Total says
2025-03-07  T1    late        2025-03-24 12:45                    # by hours
"""
# The platform is off for a day while it waits for what is late: half-hourly looks for a day would be 48 runs.
OFF = ("2025-03-10 11:05", "2025-03-11 11:00")


def test_five_weeks_without_hands(tmp_path: Path) -> None:
    """Prevents a week that is captured twice, late or never, certified too early or not at all, a fault that nobody is
    told of, noise about what is no fault, and anything that needs a person; and answers that nothing can contradict."""
    script = Script.of(WEEKS, "2025-03-07 06:00", "2025-03-27 12:00", "2025-02-07", OFF)
    with year(tmp_path / "home", script) as played:
        played.play()
        left = Left(played)
        assert Verdict(left, Oracle(script)).complaints() == []
        table = WEEKS.splitlines()
        for line in table[2:]:
            other = replace(script, text="\n".join(one for one in table if one != line))
            assert Verdict(left, Oracle(other)).against_the_script() != [], f"nothing shows of: {line}"
