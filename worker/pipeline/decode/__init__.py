"""Decoding: bytes to events, or to dead letters that say why."""

from penstock.worker.pipeline.decode.decoder import Decoder
from penstock.worker.pipeline.decode.reasons import REASONS
from penstock.worker.pipeline.decode.window import Window

__all__ = ["REASONS", "Decoder", "Window"]
