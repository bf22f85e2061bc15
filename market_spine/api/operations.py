"""What answers about the catalog, work and uses look like; as `models`, which has those about the data."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from market_spine.api.models import TIER, WEEK, CaptureRow, Change
from market_spine.api.words import Answer
from market_spine.store.columns import MOST_NUMBER


class CatalogEntry(Answer):
    """A table, view, macro or pipeline."""

    kind: str = Field(examples=["table"])
    name: str = Field(examples=["otc_symbol_hhi"])
    grain: str | None = Field(description="The columns by which a row is the only one")
    version: str | None
    stage: str | None
    description: str
    is_alias: bool = Field(description="Whether it is a table's longer name")


class Catalog(Answer):
    """What there is to read and to run."""

    items: list[CatalogEntry]


class Column(Answer):
    """One column, with its unit in the description."""

    name: str
    type: str = Field(description="DuckDB's", examples=["DECIMAL(24,6)"])
    nullable: bool
    description: str
    sources: list[str] = Field(description="The columns that its values are computed from")


class TableInFull(Answer):
    """One table or view: columns, lineage, SQL."""

    name: str
    description: str
    grain: list[str]
    stage: str | None
    version: str | None
    inputs: list[str]
    columns: list[Column]
    sql: str | None = Field(description="What makes it, of which names are its inputs'; null for what was delivered")


class DependentTable(Answer):
    """A table that depends on what was asked about."""

    table: str
    through: list[str] = Field(description="Its inputs that are it, or depend on it")
    weeks_in_window: int
    columns: dict[str, list[str]] = Field(description="Its columns -> those that bring the values")


class Partition(Answer):
    """One partition of a table."""

    table: str
    week_ending: date = WEEK
    tier: str = TIER


class Impact(Answer):
    """What depends on a table or column; with a week, which current captures."""

    name: str
    tables: list[DependentTable]
    views: dict[str, list[str]]
    partitions: list[Partition]


class WorkItem(Answer):
    """One load of one partition that was asked for."""

    model_config = ConfigDict(extra="ignore")

    id: int
    domain: str
    pipeline: str = Field(examples=["finra.otc_transparency.weekly_refresh"])
    week_ending: date = WEEK
    tier: str = TIER
    state: str = Field(description="PENDING, RUNNING, RETRY_WAIT, COMPLETE, FAILED or CANCELLED")
    generation: int = Field(description="How often the partition was asked for, from 1")
    priority: int = Field(description="Higher first: 100 for a week, 25 for a range")
    desired_at: datetime
    next_attempt_at: datetime | None
    attempt_count: int
    max_attempts: int
    error_class: str | None
    last_error: str | None
    current_execution_id: str | None = Field(description="The Dagster run that does it now")
    requested_by: str
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None


class WorkItems(Answer):
    """Work items, in the order in which they are done."""

    items: list[WorkItem]


class WorkInFull(WorkItem):
    """One work item with everything that happened to it."""

    history: list[Change]


class Enqueue(BaseModel):
    """A load to ask for: one week, or a range."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"pipeline": "otc.weekly_refresh", "week_ending": "2025-11-14", "tiers": ["OTC"]}]
        },
    )

    pipeline: str = Field(max_length=100, description="Pipeline or asset", examples=["otc.weekly_refresh"])
    week_ending: str | None = Field(None, max_length=10, description="The week: the Friday that ends it")
    first: str | None = Field(None, alias="from", max_length=10, description="The first week of a range")
    last: str | None = Field(None, alias="to", max_length=10, description="The last week of a range")
    weeks_back: int | None = Field(None, ge=1, le=1000, description="Or so many weeks back")
    tiers: list[str] = Field([], max_length=10, description="All if unset")
    priority: int | None = Field(None, ge=0, le=100, description="Higher first")
    revision_policy: str | None = Field(None, max_length=20, description="versioned, overwrite, skip or merge")
    min_records: int | None = Field(None, ge=0, description="Fewer rows are refused")
    force: bool = Field(False, description="Capture even what is the same")


class Enqueued(Answer):
    """What was added, and what stood against it: asked for before and not done yet."""

    added: list[WorkItem]
    held: list[WorkItem]


class Numbers(BaseModel):
    """Which work items."""

    model_config = ConfigDict(extra="forbid")

    ids: list[Annotated[int, Field(ge=1, le=MOST_NUMBER)]] = Field(
        min_length=1, max_length=1000, description="Their numbers", examples=[[1]]
    )


class Use(Answer):
    """One use of the data."""

    use_id: str
    used_at: datetime
    actor: str = Field(description="The name of the token, or the user of a command", examples=["trading-desk"])
    token_id: str | None
    via: str = Field(examples=["api"])
    request: str = Field(examples=["GET /api/v1/data/symbol_hhi?week_ending=2025-11-14"])
    table_name: str
    version: str = Field(description="latest, as-of, first-release, all-revisions or replay; '' for SQL")
    form: str
    status: int = Field(description="200, or 304: the copy that the user has is still right")
    data_version: str | None
    row_count: int | None


class Uses(Answer):
    """Uses, the newest first."""

    items: list[Use]


class SupersededUse(Answer):
    """One capture that was used and that is not the newest of its partition any more."""

    use_id: str
    used_at: datetime
    actor: str
    via: str
    request: str
    version: str = Field(description="latest, as-of, first-release or replay; '' for SQL")
    capture_id: str
    table_name: str
    week_ending: date = WEEK
    tier: str = TIER
    revision: int
    superseded_at: datetime | None
    was_latest: bool | None = Field(description="Whether it still was the newest one when it was used")


class SupersededUses(Answer):
    """Uses of superseded captures, the newest first."""

    items: list[SupersededUse]


class Version(Answer):
    """The captures that a data version names."""

    data_version: str
    captures: list[CaptureRow]


class Health(Answer):
    """How the server is."""

    status: str = Field(examples=["ready"])
