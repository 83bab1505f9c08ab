"""The seed: the same company each time, and every event one that a worker takes."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from penstock.schemas.catalogue import Catalogue
from penstock.worker.cli import main
from penstock.worker.errors import PenstockError
from penstock.worker.publisher import encode
from penstock.worker.seed import DOMAINS, Company, story

UNTIL = datetime(2026, 3, 1, 12, tzinfo=UTC)
ALL = story(Company(7, UNTIL, 7))


def test_the_same_company_says_the_same_whatever_else_is_told() -> None:
    assert story(Company(7, UNTIL, 7)) == ALL
    assert story(Company(8, UNTIL, 7)) != ALL
    for name in DOMAINS:
        alone = story(Company(7, UNTIL, 7), [name])
        assert alone == [one for one in ALL if one[0].startswith(f"7-20260301T120000-{name}-")]


def test_it_is_told_in_order_within_its_days_and_each_event_once() -> None:
    times = [said.at for _, said in ALL]
    assert times == sorted(times)
    assert UNTIL - timedelta(days=7) <= times[0] < times[-1] <= UNTIL
    assert len({event_id for event_id, _ in ALL}) == len(ALL) > 3000


def test_every_event_can_be_published_and_a_domain_leaves_no_type_out() -> None:
    for event_id, said in ALL:
        encode(said.event, **said.attributes(event_id))
    told = Counter(said.kind for _, said in ALL)
    begun = {kind.partition(".")[0] for kind in told}
    types = {name for name in Catalogue.load().types if name.partition(".")[0] in begun}
    print("not seeded:", sorted(Catalogue.load().types.keys() - told.keys()))  # noqa: T201
    assert types - told.keys() <= SENT_BY_PENSTOCK


SENT_BY_PENSTOCK = {
    "votes.tallied",
    "agents.rating_changed",
    "agents.tier_changed",
    "trust.scored",
    "leaderboards.computed",
    "alerts.raised",
    "alerts.resolved",
    "audit.sealed",
}


def test_an_unknown_domain_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(PenstockError, match=r"'vote'; choose of: all, agents, tasks"):
        story(Company(7, UNTIL, 1), ["vote"])


def test_a_dry_run_counts_without_any_server() -> None:
    words = ["seed", "--dry-run", "--until", UNTIL.isoformat()]
    done = CliRunner().invoke(main, [*words, "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["events"], said["published"]) == (len(ALL), 0)
    assert said["types"] == Counter(told.kind for _, told in ALL)
    assert set(said["not_seeded"]) >= {"votes.tallied"}
    text = CliRunner().invoke(main, [*words, "--domains", "votes"]).stdout
    assert "votes.cast" in text
    assert "agents.registered" not in text
    again = f"penstock seed --seed 7 --days 7 --until {UNTIL.isoformat()} --domains votes"
    assert again in text


def test_a_domain_that_there_is_not_ends_the_command_with_2() -> None:
    done = CliRunner().invoke(main, ["seed", "--dry-run", "--domains", "all,vote"])
    assert (done.exit_code, "nothing can be told of 'vote'" in done.stderr) == (2, True)
