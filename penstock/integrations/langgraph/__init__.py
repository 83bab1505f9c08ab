"""Checkpoints of LangGraph, over the bus: ``pip install penstock[langgraph]``."""

from penstock.integrations.langgraph.saver import PenstockSaver

__all__ = ["PenstockSaver"]
