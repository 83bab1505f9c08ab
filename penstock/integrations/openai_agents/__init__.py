"""Sessions and traces of OpenAI's Agents SDK: ``pip install penstock[openai-agents]``."""

from penstock.integrations.openai_agents.session import PenstockSession
from penstock.integrations.openai_agents.tracing import PenstockTracingProcessor

__all__ = ["PenstockSession", "PenstockTracingProcessor"]
