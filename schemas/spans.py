"""Events about traces: what agents, models and tools did, and when. The key is the trace."""

from penstock.schemas.event import Big, EventData, Json, Moment, Name, Text
from penstock.schemas.identity import AgentId, TraceId
from penstock.schemas.mapping import History, event
from penstock.schemas.vocabulary import LongText, Title

COLUMNS = (
    "trace_id",
    "span_id",
    "parent_id",
    "operation",
    "name",
    "started_at",
    "duration_us",
    "agent_id",
    "provider",
    "model",
    "tool",
    "conversation_id",
    "input_tokens",
    "output_tokens",
    "error_type",
    "error",
    "service",
    "attributes",
    "events",
)


@event("spans.ended", key="trace_id", history=History("spans.span", COLUMNS))
class SpanEnded(EventData, frozen=True, kw_only=True):
    """A step of a trace has ended; the event's time is its end.

    ``operation`` is what was done: ``invoke_agent``, ``chat``, ``execute_tool`` or another of the
    GenAI semantic conventions. Without ``error_type`` it went well.
    """

    trace_id: TraceId
    span_id: Name
    parent_id: Text | None = None
    operation: Text
    name: Title
    started_at: Moment
    duration_us: Big
    agent_id: AgentId | None = None
    provider: Text | None = None
    model: Text | None = None
    tool: Text | None = None
    conversation_id: Text | None = None
    input_tokens: Big | None = None
    output_tokens: Big | None = None
    error_type: Text | None = None
    error: LongText | None = None
    service: Text | None = None
    attributes: Json = None
    events: Json = None
