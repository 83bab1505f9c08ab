"""Which stream carries which domain. A subject is ``<domain>.<key>.<verb>``."""

from collections.abc import Mapping

STREAMS: Mapping[str, tuple[str, ...]] = {
    "AGENT_STATE": ("agents", "sessions", "conversations", "threads"),
    "TASK_EXECUTION": ("tasks", "workflows", "spans"),
    "AGENT_MESSAGES": ("messages", "channels"),
    "COLLABORATION": (
        "votes",
        "ideas",
        "points",
        "achievements",
        "battles",
        "leaderboards",
        "rewards",
        "mentorships",
        "trust",
        "penalties",
        "knowledge",
        "patterns",
        "learning",
    ),
    "PLATFORM": (
        "orgs",
        "projects",
        "users",
        "access",
        "apikeys",
        "config",
        "audit",
        "github",
        "tests",
        "backups",
        "recovery",
    ),
    "TELEMETRY": ("metrics", "errors", "health", "requests", "alerts"),
}
"""Stream to domains. A stream is separate where hydration latency or scaling differs."""

STREAM_OF: Mapping[str, str] = {
    domain: stream for stream, domains in STREAMS.items() for domain in domains
}
