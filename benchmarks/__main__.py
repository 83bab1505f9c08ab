"""``make bench``: run the benchmarks and print their tables, or JSON."""

import asyncio
import json
import signal
import sys
import time
from pathlib import Path

import click
import msgspec
from rich.console import Console

from benchmarks.report import ratios, show
from benchmarks.session import SECTIONS, Plan, run
from benchmarks.setting import setting
from benchmarks.workloads import WORKLOADS
from penstock.worker.ops import logs

_QUICK_COUNT = 2_000
_COUNT = WORKLOADS["heartbeats"].count


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--rounds", type=click.IntRange(1), default=5, show_default=True, help="Runs of each way."
)
@click.option(
    "--count",
    type=click.IntRange(1),
    default=_COUNT,
    show_default=True,
    help="Number of heartbeats; other counts, the minute of telemetry and the rows of queries are "
    "scaled accordingly.",
)
@click.option(
    "--only",
    type=click.Choice(SECTIONS),
    multiple=True,
    help="Only this section; may be repeated.",
)
@click.option(
    "--quick", is_flag=True, help=f"One round of {_QUICK_COUNT:,} events, as a smoke test."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--plots", type=click.Path(path_type=Path, file_okay=False), help="Write SVG files there."
)
def main(
    rounds: int,
    count: int,
    only: tuple[str, ...],
    *,
    quick: bool,
    as_json: bool,
    plots: Path | None,
) -> None:
    """Compare Penstock with other ways, on servers that are started for it on this machine."""
    logs.configure("warning", "console")
    # Treat it like Ctrl-C, so that the workers under test end too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    plan = Plan(
        sections=tuple(name for name in SECTIONS if not only or name in only),
        rounds=1 if quick else rounds,
        factor=(_QUICK_COUNT if quick else count) / _COUNT,
        quick=quick,
    )
    began, about = time.monotonic(), setting()
    results = asyncio.run(run(plan, lambda text: _say(text, began)))
    if plots is not None:
        from benchmarks.plots import draw  # noqa: PLC0415  (needs the extra `bench`)

        for path in draw(results, plots):
            _say(f"wrote {path}", began)
    if as_json:
        found = msgspec.to_builtins(results)
        print(json.dumps({**about, "rounds": plan.rounds, "ratios": ratios(results), **found}))
    else:
        console = Console(width=None if sys.stdout.isatty() else 160)
        heading = f"Medians of {plan.rounds} interleaved rounds; {json.dumps(about)}"
        console.print(heading, markup=False, soft_wrap=True)
        show(results, console)
    sys.exit(1 if any("failed" in trouble for trouble in results.troubles) else 0)


def _say(text: str, began: float) -> None:
    click.echo(f"{time.monotonic() - began:6.1f} s  {text}", err=True)


if __name__ == "__main__":
    main()
