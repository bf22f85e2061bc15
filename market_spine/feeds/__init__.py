"""One folder per weekly feed: what is true of that feed only. Code that another feed also needs lives elsewhere.

`FEEDS` is the one list of them, for the definitions and for the doors.
"""

from market_spine.domain.contracts import Feed
from market_spine.feeds.otc import OTC

FEEDS: tuple[Feed, ...] = (OTC,)
