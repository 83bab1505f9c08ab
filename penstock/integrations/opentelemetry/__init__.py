"""Spans of OpenTelemetry, over the bus: ``pip install penstock[opentelemetry]``."""

from penstock.integrations.opentelemetry.exporter import PenstockSpanExporter

__all__ = ["PenstockSpanExporter"]
