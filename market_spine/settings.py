"""Settings, all from the environment. Imported by definitions and doors only: everything below takes values."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote

from pydantic import BeforeValidator, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from market_spine.assets.spine import Progress, Spine, no_progress
from market_spine.automation.channels import Channels
from market_spine.domain.errors import SourceError
from market_spine.logs import Form, Level, configure
from market_spine.sources.delivery import Source
from market_spine.store.home import Home
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
    dagster_url: SecretStr = Field(SecretStr(""), description="PostgreSQL URL of Dagster's record; SQLite if unset")
    source: str = Field("synthetic", description="synthetic[:OPTIONS], file:PATH, finra-api or finra-api:URL")
    channels: Path | None = Field(None, description="Names of channels with their addresses; channels.yaml in the home")
    channel_urls: SecretStr = Field(SecretStr(""), description="The same on one line: {desk: slack://...}")
    threads: int | None = Field(None, ge=1, description="DuckDB threads; all cores if unset")
    api_rate: str = Field("100/second", description="Requests that one token may make of `spine serve`")
    git_url: str = Field("", description="Where this code is on GitHub or GitLab; code links are local paths if unset")
    log_level: Annotated[Level, BeforeValidator(str.upper)] = Field(
        Level.WARNING, description="From which level on something is logged: DEBUG, INFO, WARNING or ERROR"
    )
    log_format: Annotated[Form, BeforeValidator(str.lower)] = Field(
        Form.PRETTY, description="How a line of the log looks: pretty, or json for programs"
    )
    finra_client_id: str = Field("", validation_alias="FINRA_API_CLIENT_ID")
    finra_client_secret: SecretStr = Field(SecretStr(""), validation_alias="FINRA_API_CLIENT_SECRET")

    @field_validator("home", "channels")
    @classmethod
    def _with_the_users_home(cls, home: Path | None) -> Path | None:
        """A ~ that no shell has replaced (in a .env file, a unit file) is the user's home, not a folder called ~."""
        try:
            return home.expanduser() if home else None
        except RuntimeError as error:  # ~nobody/x
            raise ValueError(str(error)) from error


def clock() -> datetime:
    """The one place that reads the time."""
    return datetime.now(UTC)


def start_logging(settings: Settings) -> None:
    """Log as ``settings`` say; their secrets never."""
    urls = [one.get_secret_value() for one in (settings.control_url, settings.dagster_url)]
    # Not by urlsplit: what is no URL is refused where it is used, by its name.
    passwords = [found[1] for url in urls if (found := re.search(r"://[^/:@]*:(.*)@", url))]
    # Of channels the whole address: Slack's and others' have their token in the path.
    channels = re.findall(r"://([^\s,}'\"]+)", settings.channel_urls.get_secret_value())
    tokens = [part for one in channels for part in (one, *re.split(r"[/:@?&=]", one)) if len(part) >= 8]
    secrets = [settings.finra_client_secret.get_secret_value(), *passwords, *map(unquote, passwords), *tokens]
    configure(settings.log_level, settings.log_format, secrets)


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


def channels_of(settings: Settings, home: Home) -> Channels:
    """The channels over which people are told; nothing is read before something is sent."""
    path = settings.channels.absolute() if settings.channels else home.channels
    return Channels(path, settings.channels is not None, settings.channel_urls.get_secret_value())


def build_spine(
    settings: Settings | None = None,
    *,
    source: Source | None = None,
    clock: Callable[[], datetime] = clock,
    progress: Progress = no_progress,
) -> Spine:
    """The resource that every asset works with; arguments override the environment."""
    chosen = settings or Settings()
    start_logging(chosen)
    store = Store.at(chosen.home, chosen.control_url.get_secret_value(), chosen.threads)
    return Spine(store, source or source_of(chosen), clock, progress)
