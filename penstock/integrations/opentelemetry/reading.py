"""What a span says, in the words of the GenAI conventions and of those before them."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from penstock.integrations.texts import storable
from penstock.schemas import AgentActivity, SpanEnded

AGENT = "invoke_agent"
_CONVENTIONS = ("gen_ai.", "openinference.", "llm.", "traceloop.")
"""An attribute that begins so makes a span one of agents, models or tools."""

_OPERATION = ("gen_ai.operation.name", "openinference.span.kind", "traceloop.span.kind")
_OPERATIONS = {
    "agent": AGENT,
    "llm": "chat",
    "tool": "execute_tool",
    "embedding": "embeddings",
    "workflow": "invoke_workflow",
}
"""What others call these operations."""

_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "provider": ("gen_ai.provider.name", "gen_ai.system", "llm.provider"),
    "model": ("gen_ai.response.model", "gen_ai.request.model", "llm.model_name"),
    "tool": ("gen_ai.tool.name", "tool.name"),
    "conversation_id": ("gen_ai.conversation.id", "session.id"),
    "agent_id": ("gen_ai.agent.id", "gen_ai.agent.name", "agent.name"),
    "error_type": ("error.type",),
}
_NUMBERS: Mapping[str, tuple[str, ...]] = {
    "input_tokens": (
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.prompt_tokens",
        "llm.token_count.prompt",
    ),
    "output_tokens": (
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.completion_tokens",
        "llm.token_count.completion",
    ),
}
_PLAIN = (
    "gen_ai.agent.id",
    "gen_ai.agent.name",
    "gen_ai.agent.version",
    "gen_ai.conversation.id",
    "gen_ai.operation.name",
    "gen_ai.output.type",
    "gen_ai.provider.name",
    "gen_ai.request.",
    "gen_ai.response.",
    "gen_ai.system",
    "gen_ai.token.type",
    "gen_ai.tool.call.id",
    "gen_ai.tool.name",
    "gen_ai.tool.type",
    "gen_ai.usage.",
    "gen_ai.workflow.name",
    "llm.model_name",
    "llm.provider",
    "llm.token_count.",
    "openinference.span.kind",
    "server.",
    "error.type",
    "traceloop.span.kind",
)
"""What is kept of a span's attributes if nobody asks for content: names that end with a dot stand
for all that begin so. A list of what is kept, as nobody can list where frameworks put prompts.
"""

_TEXT, _TITLE, _LONG = 255, 1024, 100_000
_BIGGEST = 2**63 - 1


def speaks_of_agents(span: ReadableSpan) -> bool:
    """Whether the span is one of an agent, a model or a tool."""
    return any(name.startswith(_CONVENTIONS) for name in span.attributes or {})


def events_of(span: ReadableSpan, *, content: bool) -> Iterator[SpanEnded | AgentActivity]:
    """A span as events: itself, and what an agent's run says about the agent."""
    ended = ended_of(span, content=content)
    yield ended
    if ended.operation == AGENT and ended.agent_id is not None:
        details = {"trace_id": ended.trace_id, "span_id": ended.span_id, "name": ended.name}
        if ended.error_type is not None:
            details["error_type"] = ended.error_type
        yield AgentActivity(agent_id=ended.agent_id, activity_type=AGENT, details=details)


def ended_of(span: ReadableSpan, *, content: bool) -> SpanEnded:
    """The span itself."""
    said = span.attributes or {}
    start, end = span.start_time or 0, span.end_time or 0
    columns: dict[str, Any] = {name: _text(_first(said, names)) for name, names in _COLUMNS.items()}
    columns |= {name: _number(_first(said, names)) for name, names in _NUMBERS.items()}
    if span.status.status_code is StatusCode.ERROR:
        columns["error_type"] = columns["error_type"] or _exception(span) or "error"
    return SpanEnded(
        trace_id=f"{span.context.trace_id:032x}",
        span_id=f"{span.context.span_id:016x}",
        parent_id=None if span.parent is None else f"{span.parent.span_id:016x}",
        operation=_operation(said),
        name=storable(span.name, nul="")[:_TITLE],
        started_at=moment(start),
        duration_us=max(0, end - start) // 1000,
        **columns,
        error=_text(span.status.description, _LONG) if content else None,
        service=_text(span.resource.attributes.get("service.name")),
        attributes=plain({k: v for k, v in said.items() if content or _is_plain(k)}) or None,
        events=[
            {"name": one.name, "time": moment(one.timestamp), "attributes": plain(one.attributes)}
            for one in span.events
        ]
        or None
        if content
        else None,
    )


def moment(nanoseconds: int) -> datetime:
    """A time of OpenTelemetry."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=nanoseconds // 1000)


def plain(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    """Attributes as JSON and PostgreSQL can hold them: numbers that are none, and NUL, as text."""
    return {_cell(name): _cell(value) for name, value in (attributes or {}).items()}


def _cell(value: Any) -> Any:
    match value:
        case bool() | None:
            return value
        case int():
            return value if -_BIGGEST <= value <= _BIGGEST else str(value)
        case float():
            return value if abs(value) < float("inf") else str(value)
        case list() | tuple():
            return [_cell(one) for one in value]
    return storable(str(value), nul="\\u0000")


def _is_plain(name: str) -> bool:
    return any(name == one or (one[-1] == "." and name.startswith(one)) for one in _PLAIN)


def _operation(said: Mapping[str, Any]) -> str:
    found = str(_first(said, _OPERATION) or "other")
    return _OPERATIONS.get(found.lower(), found)[:_TEXT]


def _exception(span: ReadableSpan) -> str | None:
    for one in span.events:
        if one.name == "exception":
            return _text((one.attributes or {}).get("exception.type"))
    return None


def _first(said: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((said[name] for name in names if name in said), None)


def _text(value: Any, limit: int = _TEXT) -> str | None:
    return storable(str(value), nul="")[:limit] or None if value is not None else None


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 <= value <= _BIGGEST else None
