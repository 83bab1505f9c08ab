"""Agents teach each other: sessions, progress, one pairing paused, one completed."""

from collections.abc import Iterator
from datetime import timedelta

from penstock.schemas.mentorships import (
    CurriculumDefined,
    MentorshipPaired,
    MentorshipProgressReported,
    MentorshipSessionRecorded,
    MentorshipStatusChanged,
)
from penstock.schemas.vocabulary import PairingStatus, TaskStatus
from penstock.worker.seed.company import Company, happens
from penstock.worker.seed.said import Said

_PAIRS = (("edsger", "dennis", "review"), ("grace", "ken", "python"), ("barbara", "alan", "sql"))
_SESSIONS = 4


def tell(company: Company) -> Iterator[Said]:
    """A curriculum for each skill, and a pairing that follows it."""
    begun = company.since + timedelta(hours=1)
    for number, (mentor, mentee, skill) in enumerate(_PAIRS):
        defined = CurriculumDefined(
            curriculum_id=skill,
            skill=skill,
            level=1,
            title=f"The first steps of {skill}",
            objectives=["read", "write", "explain"],
        )
        yield Said(begun, defined, "ada")
        pairing = company.name("pairing", number)
        paired = MentorshipPaired(
            pairing_id=pairing,
            mentor_id=mentor,
            mentee_id=mentee,
            skill=skill,
            total_sessions=_SESSIONS,
        )
        yield Said(begun + timedelta(minutes=number), paired, "ada")
        yield from _sessions(company, pairing, mentor, skill)
    for number, status in ((0, PairingStatus.PAUSED), (1, PairingStatus.COMPLETED)):
        pairing = company.name("pairing", number)
        changed = MentorshipStatusChanged(pairing_id=pairing, status=status)
        yield Said(company.until - timedelta(hours=2), changed, _PAIRS[number][0])


def _sessions(company: Company, pairing: str, mentor: str, skill: str) -> Iterator[Said]:
    random = company.random(f"mentorships/{skill}")
    step = (company.until - company.since) / (_SESSIONS + 1)
    for number in range(1, _SESSIONS + 1):
        started = company.since + number * step
        ended = started + timedelta(minutes=45)
        session = MentorshipSessionRecorded(
            pairing_id=pairing,
            number=number,
            status=TaskStatus.COMPLETED,
            topic=f"{skill}, part {number}",
            started_at=started,
            ended_at=ended,
            objectives=["read", "write"],
            met=["read"] if happens(random, 0.5) else ["read", "write"],
            mentor_rating=round(random.uniform(0.6, 1.0), 2),
            mentee_rating=round(random.uniform(0.5, 1.0), 2),
        )
        yield Said(ended, session, mentor)
        progress = MentorshipProgressReported(
            pairing_id=pairing,
            curriculum_id=skill,
            progress=100.0 * number / _SESSIONS,
            mastery="novice" if number < _SESSIONS else "advanced",
            assessment_score=round(random.uniform(50, 100), 1),
        )
        yield Said(ended + timedelta(minutes=1), progress, mentor)
