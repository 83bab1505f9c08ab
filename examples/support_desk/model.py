"""A model that needs no network: it answers what was written down for it."""

from collections.abc import AsyncIterator
from typing import Any

from agents import Model, ModelResponse, Usage
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputItem,
    ResponseOutputMessage,
    ResponseOutputText,
)


def says(text: str) -> ResponseOutputMessage:
    """An answer."""
    content = ResponseOutputText(type="output_text", text=text, annotations=[])
    return ResponseOutputMessage(
        id="m", type="message", role="assistant", status="completed", content=[content]
    )


def calls(tool: str, arguments: str = "{}") -> ResponseFunctionToolCall:
    """A call of a tool, or a hand-off."""
    return ResponseFunctionToolCall(
        type="function_call", call_id=f"call-{tool}", name=tool, arguments=arguments
    )


class WrittenModel(Model):
    """Gives one of ``answers`` after the other; ``seen`` is what it was asked."""

    def __init__(self, *answers: ResponseOutputItem) -> None:
        self._answers = list(answers)
        self.seen: list[Any] = []

    async def get_response(self, *_: Any, **asked: Any) -> ModelResponse:
        """The next answer."""
        self.seen.append(asked["input"])
        usage = Usage(requests=1, input_tokens=10, output_tokens=5, total_tokens=15)
        return ModelResponse(output=[self._answers.pop(0)], usage=usage, response_id=None)

    def stream_response(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        """Not written down."""
        raise NotImplementedError("this model does not stream")
