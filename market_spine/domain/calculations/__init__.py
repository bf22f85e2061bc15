"""Every calculation of the platform: one module, one `CALCULATION`, found by walking this folder.

What belongs here: one file per calculation, named as its table, and the walk that finds them. What does not: the
shared laws (`domain.invariants`), column lineage (`domain.lineage`), and whatever runs the SQL (`assets`, `store`).

Rules that hold for every file, and that the tests hold every file to:
* Set-based: one SELECT serves one (week_ending, tier) or hundreds, and gives each exactly what it gives it alone.
* Bit-identical under any thread count and row order: aggregates add DECIMALs and integers only, which is exact, and a
  quotient is taken once, as DOUBLE. (Adding DOUBLEs depends on the order in which threads deliver their parts.)
* Nothing divides by zero: where a divisor may be 0 the column is nullable, and NULL means "undefined".
* A (0 shares, 0 trades) row is a report like any other: it counts as a row and as a venue, and where all of a total is
  zero, its shares, concentration and trade size are NULL, never 0 and never left out.
"""

from __future__ import annotations

import pkgutil
import sys
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from types import ModuleType

from market_spine.domain.contracts import Calculation
from market_spine.domain.errors import CalculationError

# What calculations read that is not a calculation: the normalised rows and the sessions of the exchange.
BASE_INPUTS = frozenset({"venue_volume", "trading_calendar"})


def load_calculations() -> dict[str, Calculation]:
    """All calculations by name, inputs before the calculations that read them; CalculationError names what is wrong."""
    return calculations_in(sys.modules[__name__])


def calculations_in(package: ModuleType) -> dict[str, Calculation]:
    """The calculations of ``package``, in topological order; the same order on every machine."""
    modules = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    if not modules:
        raise CalculationError(
            f"{package.__name__} holds no calculation modules", "reinstall the package: its files are missing"
        )
    found = {name: _calculation_of(import_module(f"{package.__name__}.{name}"), name) for name in modules}
    return {name: found[name] for name in _topological_order(found)}


def _calculation_of(module: ModuleType, file_name: str) -> Calculation:
    """The module's one CALCULATION, which must be named as its file."""
    calculation = getattr(module, "CALCULATION", None)
    if not isinstance(calculation, Calculation):
        raise CalculationError(
            f"{module.__name__} defines no CALCULATION", f"define CALCULATION = Calculation(...) in {file_name}.py"
        )
    if calculation.name != file_name:
        raise CalculationError(
            f"{module.__name__} defines the calculation {calculation.name!r}",
            f"rename the file to {calculation.name}.py, or the table to {file_name!r}",
        )
    return calculation


def _topological_order(found: dict[str, Calculation]) -> tuple[str, ...]:
    """Names with inputs first; an unknown input and a cycle are errors."""
    for name, calculation in found.items():
        unknown = sorted(set(calculation.inputs) - BASE_INPUTS - set(found))
        if unknown:
            raise CalculationError(
                f"calculation {name} reads {', '.join(unknown)}, which nothing makes",
                f"use one of {', '.join(sorted(BASE_INPUTS | set(found)))} in {name}.py",
            )
    graph = {name: [i for i in calculation.inputs if i in found] for name, calculation in found.items()}
    try:
        return tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        circle = " -> ".join(error.args[1])
        raise CalculationError(
            f"calculations read one another in a circle: {circle}", "remove one of inputs"
        ) from error
