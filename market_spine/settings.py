"""Settings, all from the environment. Imported by definitions and doors only: everything below takes values."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from market_spine.assets.spine import Progress, Spine, no_progress
from market_spine.domain.errors import SourceError
from market_spine.sources.delivery import Source
from market_spine.store.store import Store

CHECKOUT = Path(__file__).parents[1]


def default_home() -> Path:
    """``.market_spine`` in the project (git-ignored); beside an installed package, in the current folder."""
    base = CHECKOUT if (CHECKOUT / "pyproject.toml").exists() else Path.cwd()
    return base / ".market_spine"


class Settings(BaseSettings):
    """Everything that differs between machines."""

    model_config = SettingsConfigDict(env_prefix="MARKET_SPINE_", env_ignore_empty=True)

    home: Path = Field(default_factory=default_home, description="Folder with captures, landing and control database")
    control_url: SecretStr = Field(SecretStr(""), description="PostgreSQL URL of the control database; SQLite if unset")
    source: str = Field("synthetic", description="synthetic[:OPTIONS], file:PATH, finra-api or finra-api:URL")
    threads: int | None = Field(None, ge=1, description="DuckDB threads; all cores if unset")
    git_url: str = Field("", description="Where this code is on GitHub or GitLab; code links are local paths if unset")
    finra_client_id: str = Field("", validation_alias="FINRA_API_CLIENT_ID")
    finra_client_secret: SecretStr = Field(SecretStr(""), validation_alias="FINRA_API_CLIENT_SECRET")

    @field_validator("home")
    @classmethod
    def _with_the_users_home(cls, home: Path) -> Path:
        """A ~ that no shell has replaced (in a .env file, a unit file) is the user's home, not a folder called ~."""
        try:
            return home.expanduser()
        except RuntimeError as error:  # ~nobody/x
            raise ValueError(str(error)) from error


def clock() -> datetime:
    """The one place that reads the time."""
    return datetime.now(UTC)


def source_of(settings: Settings, is_explicit: bool = False) -> Source:
    """The source that ``settings.source`` names; ``is_explicit``: the caller named week and tier of a single file."""
    kind, _, rest = settings.source.partition(":")
    if kind == "synthetic":
        from market_spine.sources.synthetic import SyntheticSource

        return SyntheticSource.from_spec(rest)
    if kind == "file" and rest:
        from market_spine.sources.files import FileSource

        return FileSource(Path(rest).expanduser(), is_explicit)
    if kind == "finra-api":
        from market_spine.sources.finra_api import API_URL, FinraApiSource

        secret = settings.finra_client_secret.get_secret_value()
        return FinraApiSource(rest or API_URL, client_id=settings.finra_client_id, client_secret=secret)
    raise SourceError(
        f"{settings.source!r} is not a source",
        "set MARKET_SPINE_SOURCE (or --source) to synthetic, file:PATH or finra-api",
    )


def build_spine(
    settings: Settings | None = None,
    *,
    source: Source | None = None,
    clock: Callable[[], datetime] = clock,
    progress: Progress = no_progress,
) -> Spine:
    """The resource that every asset works with; arguments override the environment."""
    chosen = settings or Settings()
    store = Store.at(chosen.home, chosen.control_url.get_secret_value(), chosen.threads)
    return Spine(store, source or source_of(chosen), clock, progress)
