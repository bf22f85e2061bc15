"""Where everything is kept: one folder with captures, landing, control database and the published file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Home:
    """The folders and files below one root. Only this class knows their names."""

    root: Path

    @property
    def captures(self) -> Path:
        """Immutable Parquet files, one per capture."""
        return self.root / "captures"

    @property
    def landing(self) -> Path:
        """The exact bytes that arrived, with sidecars, and the journal of what was made from them."""
        return self.root / "landing"

    @property
    def journal(self) -> Path:
        """One file per control transaction: with the landed bytes, enough to rebuild everything."""
        return self.landing / "journal"

    @property
    def keys(self) -> Path:
        """What certificates are signed with, and every public key that ever signed one. Not in landing: secret."""
        return self.root / "keys"

    @property
    def control_url(self) -> str:
        """The embedded default of the control database."""
        return f"sqlite:///{self.root / 'control.db'}"

    @property
    def published(self) -> Path:
        """The read-only DuckDB file for people and BI tools; never the truth, always rebuildable."""
        return self.root / "market_spine.duckdb"

    @property
    def channels(self) -> Path:
        """The addresses of the channels over which people are told. Not in landing: secret."""
        return self.root / "channels.yaml"

    @property
    def unfinished(self) -> Path:
        """There while a restore is under way, and where one was cut short: what lies beside it is not whole."""
        return self.root / "restore-unfinished.json"

    @property
    def running(self) -> Path:
        """One file for each run that is under way, locked by its process while it lives."""
        return self.root / "running"

    @property
    def uses(self) -> Path:
        """What was used and is not yet in the control database."""
        return self.root / "uses"

    @property
    def dagster(self) -> Path:
        """DAGSTER_HOME where none is set."""
        return self.root / "dagster"
