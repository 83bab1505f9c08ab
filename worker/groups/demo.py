"""``penstock demo``: parsing only."""

import asyncio
from typing import Any

import click

from penstock.worker.brokers.registry import BROKERS
from penstock.worker.flags import Command, configure_logs

FRAMEWORKS = ("langgraph", "openai", "opentelemetry")
"""Those with an example of the source tree; see `penstock.worker.demo.frameworks`."""

_OF_SIMULATED = ("seconds", "rate", "domains")


class _Agents(click.Choice[Any]):
    """How many to simulate, or whose example to run instead."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if str(value).lstrip("+-").isdigit():
            return click.IntRange(min=1).convert(value, param, ctx)
        return super().convert(value, param, ctx)


@click.command(cls=Command, extra="embedded")
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    default=30.0,
    show_default=True,
    help="How long the agents publish.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
@click.option("--keep", is_flag=True, help="Leave the servers and the worker running.")
@click.option(
    "--agents",
    type=_Agents(FRAMEWORKS),
    metavar="N|NAME",
    default=100,
    show_default=True,
    help=f"Number of simulated agents, or an example to run instead: {', '.join(FRAMEWORKS)}.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=1),
    metavar="N",
    help="Events per second over all agents.",
)
@click.option(
    "--broker",
    type=click.Choice([*BROKERS, "both"]),
    default="nats",
    show_default=True,
    help="Broker for the events; RabbitMQ must be installed.",
)
@click.option(
    "--domains",
    metavar="NAME,...",
    help="Also what a small company says: all, or of these domains.",
)
@click.pass_context
def demo(ctx: click.Context, /, agents: int | str, **options: Any) -> int:
    """Watch Penstock work: embedded servers, simulated agents, a worker."""
    configure_logs("warning", "auto")
    if isinstance(agents, str):
        return _example(ctx, agents, **options)
    from penstock.worker import demo as show  # noqa: PLC0415

    return asyncio.run(show.demo(agents=agents, **options))


def _example(ctx: click.Context, name: str, **options: Any) -> int:
    for option in _OF_SIMULATED:
        options.pop(option)
        if ctx.get_parameter_source(option) is not click.core.ParameterSource.DEFAULT:
            raise click.UsageError(f"--{option} is for simulated agents, not for {name}")
    from penstock.worker.demo import frameworks  # noqa: PLC0415

    return asyncio.run(frameworks.show(name, **options))
