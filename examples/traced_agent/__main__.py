"""An agent that asks a tool, with a model that needs no network: ``python -m traced_agent``.

A worker must be running: `penstock run`. Needs `pip install pydantic-ai-slim`.
"""

import os

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from pydantic_ai import Agent
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.models.test import TestModel

from penstock.integrations.opentelemetry import PenstockSpanExporter


def forecast(city: str) -> str:
    """The weather of tomorrow."""
    return f"sun in {city}"


def main() -> None:
    """Trace one run of the agent."""
    url = os.environ.get("PENSTOCK_NATS_URL", "nats://127.0.0.1:4222")
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(PenstockSpanExporter(url)))
    Agent.instrument_all(InstrumentationSettings(tracer_provider=provider))
    agent = Agent(TestModel(), name="weather", tools=[forecast])
    print(agent.run_sync("How will it be in Rome?").output)  # noqa: T201
    provider.shutdown()


if __name__ == "__main__":
    main()
