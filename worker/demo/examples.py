"""The examples of agents' frameworks that the demo can run, and where they are."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

import penstock
from penstock.worker.errors import PenstockError

FOLDER = Path(penstock.__file__).parents[1] / "examples"


class Run(msgspec.Struct, frozen=True):
    """One start of an example: its arguments, and the exit code that is meant."""

    arguments: tuple[str, ...] = ()
    code: int = 0

    def command(self, example: "Example") -> tuple[str, ...]:
        """What Python is started with."""
        return ("-m", example.package, *self.arguments)


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """A program in a folder of ``examples/``, which needs ``distribution``.

    Everything has arrived once the query ``arrived`` is true. ``shown`` are queries with headings.
    """

    package: str
    distribution: str
    runs: tuple[Run, ...] = (Run(),)
    arrived: str
    shown: Mapping[str, str]


_SPANS = """
SELECT operation, name, tool, input_tokens, output_tokens, round(duration_us / 1000.0, 1) AS ms
FROM spans.span ORDER BY started_at, occurred_at DESC
"""
_ITEMS = """
SELECT coalesce(item ->> 'role', item ->> 'type') AS item,
       coalesce(item ->> 'name', item ->> 'output', item -> 'content' -> 0 ->> 'text',
                item ->> 'content') AS content
FROM conversations.v_item ORDER BY occurred_at, event_id, n
"""
_CHECKPOINTS = """
SELECT metadata ->> 'step' AS step, metadata ->> 'source' AS source,
       (SELECT count(*) FROM threads.write AS w
        WHERE w.thread_id = v.thread_id AND w.checkpoint_id = v.checkpoint_id) AS writes,
       to_char(occurred_at, 'HH24:MI:SS.MS') AS at
FROM threads.v_checkpoint AS v ORDER BY checkpoint_id
"""
_TRACED = """
SELECT count(DISTINCT trace_id) FILTER (WHERE parent_id IS NULL) = {runs}
   AND EXISTS (SELECT FROM agents.agent)
FROM spans.span
"""
"""The root of a trace ends last; from the run of an agent its row follows."""

EXAMPLES: Mapping[str, Example] = {
    "langgraph": Example(
        package="langgraph_agent",
        distribution="langgraph",
        runs=(Run(("trip-7", "--die-in", "write"), -9), Run(("trip-7",))),
        arrived="SELECT EXISTS (SELECT FROM threads.v_checkpoint)",
        shown={"checkpoints of the thread, in threads.v_checkpoint": _CHECKPOINTS},
    ),
    "openai": Example(
        package="support_desk",
        distribution="openai-agents",
        runs=(Run(), Run()),
        arrived=_TRACED.format(runs=2),
        shown={
            "the conversation, in conversations.v_item": _ITEMS,
            "its traces, in spans.span": _SPANS,
        },
    ),
    "opentelemetry": Example(
        package="traced_agent",
        distribution="pydantic-ai-slim",
        arrived=_TRACED.format(runs=1),
        shown={"the trace, in spans.span": _SPANS},
    ),
}


def example_of(name: str) -> Example:
    """The example of a framework. Raises PenstockError if it cannot be run, with what to do."""
    found = EXAMPLES[name]
    if not (FOLDER / found.package).is_dir():
        raise PenstockError(
            f"the example of {name} is not in {FOLDER}: it comes with the source tree of Penstock, "
            f'where `make demo ARGS="--agents {name}"` runs it'
        )
    try:
        version(found.distribution)
    except PackageNotFoundError as error:
        raise PenstockError(
            f"the example of {name} needs {found.distribution}, which is not installed: "
            "pip install 'penstock[examples]'"
        ) from error
    return found
