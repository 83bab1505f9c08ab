"""``penstock seed``: what a small company of agents says, published the same way as by an agent."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import click
import msgspec

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.identity import event_uuid
from penstock.worker.commands.advancing import advancing
from penstock.worker.commands.columns import columns
from penstock.worker.commands.publish import opened_outlet
from penstock.worker.publisher.encoding import encode, subject_of
from penstock.worker.seed import DOMAINS, Company, Said, chosen, story
from penstock.worker.sending.outgoing import Confirmation
from penstock.worker.settings.keys import Settings


class _Tally:
    """Counts what the broker says of each event; ``first`` is the first refusal."""

    def __init__(self) -> None:
        self.published = self.duplicates = self.refused = 0
        self.first: BaseException | None = None

    def settled(self, done: asyncio.Future[Confirmation]) -> None:
        """Count an event that is confirmed or refused."""
        error = None if done.cancelled() else done.exception()
        if done.cancelled() or error is not None:
            self.refused += 1
            self.first = self.first or error
        elif done.result().duplicate:
            self.duplicates += 1
        else:
            self.published += 1

    @property
    def done(self) -> int:
        return self.published + self.duplicates + self.refused


class Seeded(msgspec.Struct, frozen=True):
    """What was told: to tell it again, give ``seed``, ``days``, ``until`` and ``domains``.

    ``types`` are the events of each type; ``not_seeded`` the types that nobody tells, of domains
    that have no seed, or because Penstock sends them itself.
    """

    seed: int
    days: int
    until: datetime
    domains: Sequence[str]
    events: int
    published: int
    duplicates: int
    refused: int
    types: Mapping[str, int]
    not_seeded: Sequence[str]


async def publish(
    settings: Settings,
    domains: str,
    seed: int,
    days: int,
    until: datetime | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Tell the story of ``domains`` once. Returns the exit code: 1 if an event was refused.

    Every id follows from ``seed``, ``days`` and ``until``, so telling it twice changes nothing.
    Raises PenstockError for an unknown domain, or if a server cannot be reached.
    """
    company = Company(seed, until or _full_hour(), days)
    told = story(company, domains.split(","))
    tally = _Tally()
    if told and not dry_run:
        await _send(settings, told, tally)
    types = Counter(said.kind for _, said in told)
    found = Seeded(
        seed=seed,
        days=days,
        until=company.until,
        domains=chosen(domains.split(",")),
        events=len(told),
        published=tally.published,
        duplicates=tally.duplicates,
        refused=tally.refused,
        types=dict(sorted(types.items())),
        not_seeded=_not_seeded(company),
    )
    click.echo(msgspec.json.encode(found).decode() if as_json else _text(found, dry_run=dry_run))
    if tally.first is not None:
        click.echo(f"the first refusal: {tally.first}", err=True)
    return 1 if tally.refused else 0


def _not_seeded(company: Company) -> list[str]:
    told = {said.kind for _, said in story(company)}
    return [name for name in Catalogue.load().types if name not in told]


def _full_hour() -> datetime:
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


async def _send(settings: Settings, told: Sequence[tuple[str, Said]], tally: _Tally) -> None:
    progress = advancing("publishing", len(told), lambda: tally.done)
    waiting = []
    async with opened_outlet(settings) as outlet, progress:
        for event_id, said in told:
            attributes = said.attributes(event_id)
            body, subject = encode(said.event, **attributes), subject_of(said.event)
            sent = await outlet.sender.send(
                subject, body, event_uuid(attributes["source"], event_id)
            )
            sent.add_done_callback(tally.settled)
            waiting.append(sent)
        await outlet.sender.flush()
        await asyncio.wait(waiting)


def _text(found: Seeded, *, dry_run: bool) -> str:
    table = columns(("type", "events"), ((name, f"{n}") for name, n in found.types.items()))
    again = f"--seed {found.seed} --days {found.days} --until {found.until.isoformat()}"
    if len(found.domains) < len(DOMAINS):
        again += f" --domains {','.join(found.domains)}"
    if dry_run:
        said = f"{found.events} events would be published"
    else:
        said = (
            f"{found.published} published, {found.duplicates} duplicates, {found.refused} refused"
        )
    missing = f"\nnot seeded: {', '.join(found.not_seeded)}" if found.not_seeded else ""
    return f"{table}\n{said}; the same again: penstock seed {again}{missing}"
