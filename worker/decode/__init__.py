"""Decoding: bytes to events, or to dead letters that say why."""

from worker.decode.decoder import Decoder
from worker.decode.reasons import REASONS
from worker.decode.window import Window

__all__ = ["REASONS", "Decoder", "Window"]
