"""`spine demo`: six synthetic weeks of three tiers through the whole platform, offline, at moments of a fixed past.

What belongs here: the acts. What does not: what is told afterwards, all of it asked of the store (`demo_story`).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from market_spine.automation.request import Params, Request
from market_spine.cli.output import escaped, say
from market_spine.cli.scenarios import Name
from market_spine.cli.state import DEMO_MARK, State, demo_home
from market_spine.domain.errors import SpineError, StoreError
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.domain.weeks import weeks_between

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from market_spine.assets.spine import Spine

WEEKS = weeks_between(date(2025, 10, 10), date(2025, 11, 14))
LATE = WeekKey(WEEKS[-1], Tier.NMS_TIER_2)
MALFORMED = WeekKey(date(2025, 10, 31), Tier.OTC)
RESTATED = WeekKey(date(2025, 11, 7), Tier.OTC)
# A revision shows 10 days after the first publication (2025-12-08), so between the second and the last moment.
SOURCE = (
    f"seed=7,scale=0.05,revision_hours=240,fault=late-tier:{LATE}:30,fault=malformed-lines:{MALFORMED}:1,"
    f"fault=restatement:{RESTATED}:3"
)
DONE = "made by spine demo, and wiped by the next one\n"


@dataclass(frozen=True)
class Act:
    """One visit: when, what for, and what is told of it."""

    moment: datetime
    keys: tuple[WeekKey, ...]
    told: str


ACTS = (
    Act(
        datetime(2025, 12, 15, 15, tzinfo=UTC),
        tuple(WeekKey(week, tier) for week in WEEKS for tier in Tier),
        "six weeks of three tiers; the newest lacks one that is late",
    ),
    Act(datetime(2025, 12, 17, 15, tzinfo=UTC), (LATE,), "the late tier has arrived"),
    Act(
        datetime(2025, 12, 19, 15, tzinfo=UTC),
        (RESTATED, WeekKey(WEEKS[-1], Tier.OTC)),
        "FINRA has restated a week: its windows are calculated again too",
    ),
)


def demo(
    ctx: typer.Context,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep what an earlier demo made, and only tell it again.")
    ] = False,
    scenario: Annotated[
        Name | None,
        typer.Option("--scenario", help="Instead: one of the failures that break such systems, and what holds."),
    ] = None,
) -> None:
    """Show the whole way of synthetic weeks through the platform, offline, in a home of its own (--home to choose).

    Example: spine demo

    Example: spine demo --scenario missing-tier
    """
    state: State = ctx.obj
    if scenario:
        _play_scenario(state, scenario)
    else:
        _play_all(state, keep)


def _play_all(state: State, keep: bool) -> None:
    from market_spine.assets.reading import publish_again
    from market_spine.automation.export import export
    from market_spine.cli import demo_story
    from market_spine.cli.state import feeds, open_instance
    from market_spine.store.ledger import Run

    spine, home = _spine_of(state, SOURCE)
    told_before = keep and (home / DEMO_MARK).exists() and (home / DEMO_MARK).read_text(encoding="utf-8") == DONE
    if not told_before:
        _prepare(home)
    say(
        f"[bold]Market Spine[/], with {len(WEEKS)} synthetic weeks of {len(Tier)} tiers\n[dim]{escaped(str(home))}[/]\n"
    )
    if not told_before:
        with open_instance(spine.store) as instance:
            for act in ACTS:
                _play(spine, act, instance, state)
            export(spine.store, feeds(), instance, Run("demo", "demo", ACTS[-1].moment))  # as its sensor does
        publish_again(spine.store)
        (home / DEMO_MARK).write_text(DONE, encoding="utf-8")
    demo_story.tell(spine.store, home)


def _play_scenario(state: State, name: Name) -> None:
    """One scenario, in a home of its own."""
    from market_spine.assets.reading import fill, publish_again
    from market_spine.automation.pipelines import find
    from market_spine.cli import demo_story
    from market_spine.cli.scenario import Ending, Stage
    from market_spine.cli.scenarios import SCENARIOS
    from market_spine.cli.state import feeds, open_instance

    scenario = SCENARIOS[name]
    spine, home = _spine_of(state, scenario.recipe, name.value)
    _prepare(home)
    say(f"[bold]{escaped(scenario.title)}[/], played on synthetic weeks\n[dim]{escaped(str(home))}[/]\n")
    feed, _ = find(feeds(), "otc.weekly_refresh")
    with open_instance(spine.store) as instance:
        scenario.play(Stage(spine, feed, instance, state.log_level, scenario.watched))
    publish_again(spine.store)
    say("")
    with spine.store.engine() as engine:
        fill(spine.store, engine)
        scenario.explain(Ending(engine))
    demo_story.suggest(home, scenario.ask)


def _spine_of(state: State, recipe: str, folder: str = "") -> tuple[Spine, Path]:
    """The spine over generated weeks, and its home: the one that --home names, else in the store's."""
    from market_spine.cli.state import settings_of
    from market_spine.settings import build_spine
    from market_spine.sources.synthetic import SyntheticSource

    settings = settings_of(state, f"synthetic:{recipe}")
    # Beside the demo's home, never below it: the demo wipes its own.
    place = demo_home(settings).with_name("scenarios") / folder if folder else demo_home(settings)
    home = (state.home or place).absolute()
    settings = settings.model_copy(update={"home": home, "control_url": type(settings.control_url)("")})
    return build_spine(settings, source=SyntheticSource.from_spec(recipe)), home  # refuses what is no home


def _prepare(home: Path) -> None:
    """An empty folder. One that is not a demo's is never touched."""
    mark = home / DEMO_MARK
    if home.exists() and any(home.iterdir()) and not mark.exists():
        raise StoreError(f"{home} is not empty, and no demo's home", "name another folder: spine demo --home FOLDER")
    if home.exists():
        shutil.rmtree(home)
    home.mkdir(parents=True, exist_ok=True)
    mark.touch()


def _play(spine: Spine, act: Act, instance: DagsterInstance, state: State) -> None:
    from market_spine.assets.scope import judge
    from market_spine.automation.pipelines import find
    from market_spine.cli.progress import Watch, expected_steps
    from market_spine.cli.state import feeds
    from market_spine.cli.work import carry_out, partitions_of
    from market_spine.store.ledger import Run

    feed, pipeline = find(feeds(), "otc.weekly_refresh")
    request = Request(feed, "demo", pipeline.tables, act.keys, params=Params())
    steps = expected_steps(partitions_of(request, act.keys), len(act.keys))
    with Watch(steps, quiet=True) as watch:
        there = replace(spine, clock=lambda: act.moment, progress=watch.step)
        found, counted = carry_out(there, request, sorted(act.keys), instance, state.log_level)
    judged = Run(f"demo:{act.moment:%Y%m%dT%H%M%S}", "demo", act.moment)
    judge(there.store, judged, feed)  # as the readiness sensor does, every week
    captured, unchanged = sum(one.captured for one in counted), sum(one.unchanged for one in counted)
    say(f"[bold]{act.moment:%a %Y-%m-%d}[/]  {act.told}")
    done = f"{captured:,} captures made, {unchanged:,} unchanged, in {len(found.run_ids)} Dagster runs"
    say(f"[dim]{' ' * 16}{done}[/]")
    if found.failures:
        raise SpineError(found.failures[0], "spine demo --verbose  # shows Dagster's log")
