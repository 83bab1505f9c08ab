"""A question, a hand-off, a tool, an answer: ``python -m support_desk``.

A worker must be running: `penstock run`.
"""

import os

from agents import Agent, Runner, function_tool, set_trace_processors

from penstock.integrations.openai_agents import PenstockSession, PenstockTracingProcessor
from penstock.sync import Publisher
from support_desk.model import WrittenModel, calls, says


@function_tool
def look_up(order: str) -> str:
    """Where an order is."""
    return f"order {order} is on its way"


def desk() -> Agent:
    """The agent that all ask, with the one that knows."""
    answers = (
        calls("transfer_to_shipping"),
        calls("look_up", '{"order": "o-7"}'),
        says("Your order is on its way."),
    )
    model = WrittenModel(*answers)
    shipping = Agent(name="shipping", model=model, tools=[look_up])
    return Agent(name="desk", model=model, handoffs=[shipping])


def main() -> None:
    """Ask once, and show what is kept."""
    url = os.environ.get("PENSTOCK_NATS_URL", "nats://127.0.0.1:4222")
    with Publisher(url, source="/desk") as bus:
        set_trace_processors([PenstockTracingProcessor(bus)])
        session = PenstockSession("conversation-7", bus)
        print(Runner.run_sync(desk(), "Where is o-7?", session=session).final_output)  # noqa: T201


if __name__ == "__main__":
    main()
