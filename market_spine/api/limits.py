"""How much may be asked: requests per token and time, failures per address.

What belongs here: counting, in the memory of this process. What does not: what is limited.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from market_spine.domain.errors import LimitError, SpineError

FAILURES = parse("20/minute")  # wrong tokens of one address: 256 bits are not guessed, but the log stays readable


def rate_of(text: str) -> RateLimitItem:
    """``text`` as a rate, e.g. 50/second. SpineError where it is none."""
    try:
        return parse(text)
    except ValueError as error:
        raise SpineError(f"{text!r} is no rate", "write it as 50/second or 1000/minute") from error


class Limits:
    """What holders of tokens and addresses have asked of late."""

    def __init__(self, rate: RateLimitItem, now: Callable[[], datetime]) -> None:
        self.rate, self.now = rate, now  # of the machine, as the library reads it itself
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def count(self, token_id: str) -> None:
        """One more request of a token. LimitError where it is one too many."""
        if not self._limiter.hit(self.rate, "token", token_id):
            raise self._error(self.rate, f"more than {self.rate} with this token", "token", token_id)

    def check_failures(self, address: str) -> None:
        """LimitError where too many wrong tokens came from ``address``."""
        if not self._limiter.test(FAILURES, "address", address):
            raise self._error(FAILURES, "too many wrong tokens from this address", "address", address)

    def count_failure(self, address: str) -> None:
        """One more wrong token from ``address``."""
        self._limiter.hit(FAILURES, "address", address)

    def _error(self, rate: RateLimitItem, cause: str, *key: str) -> LimitError:
        seconds = max(1, math.ceil(self._limiter.get_window_stats(rate, *key).reset_time - self.now().timestamp()))
        error = LimitError(cause, f"wait {seconds} s, as Retry-After says")
        error.seconds = seconds
        return error
