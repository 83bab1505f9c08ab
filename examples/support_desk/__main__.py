"""A question, a hand-off, a tool, an answer: ``python -m support_desk``.

Started again, it goes on with the same conversation. A worker must be running: `penstock run`.
"""

import asyncio
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


async def ask(bus: Publisher) -> None:
    """Go on with the conversation, wherever it was begun."""
    session = PenstockSession("conversation-7", bus)
    print(f"{len(await session.get_items())} items so far")  # noqa: T201
    answered = await Runner.run(desk(), "Where is o-7?", session=session)
    print(answered.final_output)  # noqa: T201


def main() -> None:
    """Ask once; what is kept is there for the next process."""
    url = os.environ.get("PENSTOCK_NATS_URL", "nats://127.0.0.1:4222")
    with Publisher(url, source="/desk") as bus:
        set_trace_processors([PenstockTracingProcessor(bus)])
        asyncio.run(ask(bus))


if __name__ == "__main__":
    main()
