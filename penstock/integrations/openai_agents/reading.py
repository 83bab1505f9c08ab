"""What a span of the Agents SDK says."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from agents.tracing import Span, Trace

from penstock.integrations.texts import storable
from penstock.schemas import AgentActivity, SpanEnded

AGENT = "invoke_agent"
_OPERATIONS = {
    "agent": AGENT,
    "generation": "chat",
    "response": "chat",
    "function": "execute_tool",
    "task": "invoke_workflow",
}
"""What the GenAI conventions call them."""

_PLAIN = (
    "handoffs",
    "tools",
    "output_type",
    "from_agent",
    "to_agent",
    "triggered",
    "response_id",
    "usage",
    "server",
    "turn",
    "agent_name",
)
"""What is kept if nobody asks for content."""

_TEXT, _TITLE, _LONG = 255, 1024, 100_000


def ended_of(span: Span[Any], *, content: bool) -> tuple[datetime, SpanEnded]:
    """A span as an event, with its time."""
    data, kind = span.span_data, span.span_data.type
    begun, end = _moment(span.started_at), _moment(span.ended_at)
    name = getattr(data, "name", None) or kind
    response = getattr(data, "response", None)
    said = data.export()
    usage = _usage(data, response)
    error = span.error
    return end, SpanEnded(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_id=span.parent_id or span.trace_id,
        operation=_OPERATIONS.get(kind, kind)[:_TEXT],
        name=_text(name, _TITLE) or kind,
        started_at=begun,
        duration_us=max(0, int((end - begun).total_seconds() * 1_000_000)),
        agent_id=_text(name) if kind == "agent" else None,
        provider="openai" if response is not None else None,
        model=_text(getattr(data, "model", None) or getattr(response, "model", None)),
        tool=_text(name) if kind == "function" else None,
        input_tokens=_tokens(usage, "input_tokens", "prompt_tokens"),
        output_tokens=_tokens(usage, "output_tokens", "completion_tokens"),
        error_type=None if error is None else "error",
        error=_text(error["message"], _LONG) if error and content else None,
        attributes=_attributes(data, said, content=content),
    )


def ended_trace_of(trace: Trace, begun: datetime, end: datetime) -> SpanEnded:
    """A trace as its outermost span."""
    return SpanEnded(
        trace_id=trace.trace_id,
        span_id=trace.trace_id,
        operation="invoke_workflow",
        name=_text(trace.name, _TITLE) or "trace",
        started_at=begun,
        duration_us=max(0, int((end - begun).total_seconds() * 1_000_000)),
        conversation_id=_text(getattr(trace, "group_id", None)),
    )


def activity_of(ended: SpanEnded) -> AgentActivity | None:
    """What an agent's run says about the agent."""
    if ended.agent_id is None:
        return None
    details = {"trace_id": ended.trace_id, "span_id": ended.span_id}
    return AgentActivity(agent_id=ended.agent_id, activity_type=AGENT, details=details)


def _attributes(data: Any, said: Mapping[str, Any], *, content: bool) -> dict[str, Any] | None:
    kept = {name: said[name] for name in (said if content else _PLAIN) if said.get(name)}
    if content:
        more = {"input": getattr(data, "input", None), "output": _output(data)}
        kept |= {name: value for name, value in more.items() if value}
    plain = msgspec.to_builtins(kept, enc_hook=str, str_keys=True)
    return _clean(plain) or None


def _output(data: Any) -> Any:
    response = getattr(data, "response", None)
    if response is not None:
        return [one.model_dump(mode="json") for one in response.output]
    return getattr(data, "output", None)


def _usage(data: Any, response: Any) -> Mapping[str, Any]:
    usage = getattr(data, "usage", None) or getattr(response, "usage", None)
    if usage is None or isinstance(usage, Mapping):
        return usage or {}
    found: Mapping[str, Any] = usage.model_dump()
    return found


def _tokens(usage: Mapping[str, Any], *names: str) -> int | None:
    found = next((usage[name] for name in names if name in usage), None)
    return found if isinstance(found, int) and found >= 0 else None


def _moment(text: str | None) -> datetime:
    return datetime.now(UTC) if text is None else datetime.fromisoformat(text)


def _text(value: Any, limit: int = _TEXT) -> str | None:
    return storable(str(value), nul="")[:limit] or None if value is not None else None


def _clean(found: Any) -> Any:
    """Without what neither JSON nor PostgreSQL can hold."""
    match found:
        case str():
            return storable(found)
        case float():
            return found if abs(found) < float("inf") else str(found)
        case list():
            return [_clean(one) for one in found]
        case dict():
            return {_clean(str(key)): _clean(value) for key, value in found.items()}
    return found
