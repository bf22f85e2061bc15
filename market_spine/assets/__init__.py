"""The asset graph: partitions, the raw asset per feed, the one calculation factory, checks, calendar, publishing.

What belongs here: what exists and how one step of it runs. What does not: the SQL of calculations and rules about rows
(`domain`, `feeds`, `checks`), when things run (`automation`).
"""

import warnings

from dagster import BetaWarning

# Partition mappings, backfill policies and code references are beta in Dagster 1.13, which is pinned exactly: about 90
# warnings at every import would hide the one that matters.
warnings.filterwarnings("ignore", category=BetaWarning)
