"""Three steps, each stored before the next one begins. Killed, it goes on where it was.

    python -m langgraph_agent trip-7 --die-in write
    python -m langgraph_agent trip-7

A worker must be running: `penstock run`.
"""

import os
import signal
import sys
from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph

from penstock.integrations.langgraph import PenstockSaver

STEPS = ("plan", "write", "review")


def added(before: list[str], now: list[str]) -> list[str]:
    """What was done, and what is new."""
    return before + now


class Work(TypedDict):
    """What the agent has done."""

    done: Annotated[list[str], added]


def step(name: str, dies_in: str | None) -> Any:
    """One step of the agent; a model would be asked here."""

    def run(_: Work) -> Work:
        if name == dies_in:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"done": [f"{name} in process {os.getpid()}"]}

    return run


def main(thread: str, dies_in: str | None = None) -> list[str]:
    """Run the graph, or what is left of it."""
    graph = StateGraph(Work)
    for name, before in zip(STEPS, (START, *STEPS), strict=False):
        graph.add_node(name, step(name, dies_in))
        graph.add_edge(before, name)
    graph.add_edge(STEPS[-1], END)
    url = os.environ.get("PENSTOCK_NATS_URL", "nats://127.0.0.1:4222")
    with PenstockSaver.from_url(url) as saver:
        agent = graph.compile(checkpointer=saver)
        here: RunnableConfig = {"configurable": {"thread_id": thread}}
        begun = bool(agent.get_state(here).next)
        new: Work | None = None if begun else {"done": []}
        found = agent.invoke(new, here, durability="sync")
    return list(found["done"])


if __name__ == "__main__":
    print(*main(sys.argv[1], *sys.argv[3:4]), sep="\n")  # noqa: T201
