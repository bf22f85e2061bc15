"""How much may be asked: requests per token and time, failures per address.

What belongs here: counting, in the memory of this process. What does not: what is limited.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime

from limits import RateLimitItem, parse, parse_many
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from market_spine.domain.errors import LimitError, SpineError

FAILURES = parse("20/minute")  # wrong tokens of one address: 256 bits are not guessed, but the log stays readable
RATE = "write it as 50/second or 1000/minute"


def rate_of(text: str) -> RateLimitItem:
    """``text`` as a rate, e.g. 50/second. SpineError where it is none."""
    try:
        (rate,) = parse_many(text)
        if rate.amount > 0:
            return rate
    except ValueError as error:
        raise SpineError(f"{text!r} is no rate", RATE) from error
    raise SpineError(f"{text!r} would let nobody ask", RATE)


class Limits:
    """What holders of tokens and addresses have asked of late."""

    def __init__(self, rate: RateLimitItem, now: Callable[[], datetime]) -> None:
        self.rate, self.now = rate, now  # of the machine, as the library reads it itself
        # Two numbers for each token; the moving window keeps every request, and goes through them all at each new one.
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def count(self, token_id: str) -> None:
        """One more request of a token. LimitError where it is one too many."""
        if not self._limiter.hit(self.rate, "token", token_id):
            raise self._error(self.rate, f"more than {self.rate} with this token", "token", token_id)

    def count_failure(self, address: str) -> None:
        """One more wrong token from ``address``. LimitError where it is one too many."""
        if not self._limiter.hit(FAILURES, "address", address):
            raise self._error(FAILURES, "too many wrong tokens from this address", "address", address)

    def _error(self, rate: RateLimitItem, cause: str, *key: str) -> LimitError:
        seconds = max(1, math.ceil(self._limiter.get_window_stats(rate, *key).reset_time - self.now().timestamp()))
        error = LimitError(cause, f"wait {seconds} s, as Retry-After says")
        error.seconds = seconds
        return error
