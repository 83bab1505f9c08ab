"""What Penstock itself sends through the outbox."""

TOLD = (
    "agents.rating_changed",
    "agents.tier_changed",
    "alerts.raised",
    "alerts.resolved",
    "audit.sealed",
    "leaderboards.computed",
    "sessions.closed",
    "trust.scored",
    "votes.tallied",
)
"""The types of the events that functions in `migrations/` conclude. A worker's user needs the right
to publish them.
"""
