"""What agents write down, assert of things, pass on, and take back."""

from collections.abc import Iterator
from datetime import timedelta

from penstock.schemas.knowledge import (
    FactAsserted,
    FactRetracted,
    KnowledgeEmbedded,
    KnowledgeItemRetired,
    KnowledgeItemStored,
    KnowledgeTransferred,
)
from penstock.schemas.vocabulary import EmbeddingOwner
from penstock.worker.seed.company import Company, happens
from penstock.worker.seed.said import Said

_ITEMS = (
    ("postgres", "Slow queries on partitions", "Always filter by the column of the partition."),
    ("postgres", "Locks of a migration", "Set a lock timeout before you alter a table."),
    ("nats", "Acknowledge after the commit", "Otherwise a crash loses what was not written."),
    ("testing", "Flaky tests", "Wait for a condition with a deadline, never for a time."),
    ("release", "Rolling back a release", "Keep the previous image, and the old columns."),
    ("python", "Cancelled tasks", "Await a task after its cancellation, or it never ends."),
)
_VERSIONS = ("1.0", "1.1", "1.2")


def tell(company: Company) -> Iterator[Said]:
    """Items with embeddings, their way to other agents, and which version of a service runs."""
    random = company.random("knowledge")
    for number, (domain, title, text) in enumerate(_ITEMS):
        item, author = f"note-{number}", random.choice(company.agents)
        at = company.since + timedelta(hours=2 + 3 * number)
        stored = KnowledgeItemStored(
            item_id=item,
            domain=domain,
            content={"title": title, "description": text},
            source_agent_id=author.id,
            confidence=round(random.uniform(0.6, 1.0), 2),
            tags=[domain, "lesson"],
        )
        yield Said(at, stored, author.id)
        embedded = KnowledgeEmbedded(
            owner_id=item,
            owner_kind=EmbeddingOwner.ITEM,
            model="small-8",
            vector=[round(random.uniform(-1, 1), 4) for _ in range(8)],
            source_text=title,
        )
        yield Said(at + timedelta(seconds=5), embedded, author.id)
        for student in random.sample(company.agents, 4):
            passed = KnowledgeTransferred(
                item_id=item,
                source_agent_id=author.id,
                target_agent_id=student.id,
                method="retrieval",
                success=happens(random, 0.85),
            )
            yield Said(at + timedelta(hours=random.uniform(1, 60)), passed, author.id)
    retired = KnowledgeItemRetired(item_id="note-4", reason="the release works differently now")
    yield Said(company.until - timedelta(hours=3), retired, "radia")
    yield from _facts(company)


def _facts(company: Company) -> Iterator[Said]:
    """Each version ends the one before it; what was said of the owner was wrong."""
    step = (company.until - company.since) / len(_VERSIONS)
    for project in company.projects:
        for number, version in enumerate(_VERSIONS):
            fact = FactAsserted(
                fact_id=f"{project}-{version}",
                entity_type="service",
                entity_id=project,
                predicate="runs_version",
                object_value=version,
                object_type="version",
                source_agent_id="radia",
                confidence=0.99,
            )
            yield Said(company.since + number * step + timedelta(minutes=20), fact, "radia")
    wrong = FactAsserted(
        fact_id="checkout-owner",
        entity_type="service",
        entity_id="checkout",
        predicate="owned_by",
        object_value="dennis",
        object_type="agent",
        source_agent_id="ken",
        confidence=0.4,
    )
    said = company.since + timedelta(hours=4)
    yield Said(said, wrong, "ken")
    taken_back = FactRetracted(fact_id="checkout-owner", valid_until=said, reason="hearsay")
    yield Said(said + timedelta(hours=2), taken_back, "ken")
