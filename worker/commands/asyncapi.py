"""The catalogue as an AsyncAPI 3.0 document: https://www.asyncapi.com/docs/reference/specification/v3.0.0.

It describes the worker: an operation "receive" means that an agent sends.
"""

import json
from typing import Any
from urllib.parse import unquote, urlsplit

from penstock import __version__
from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event_type import EventType
from penstock.worker.brokers.registry import BROKERS
from penstock.worker.commands.event_examples import example_of
from penstock.worker.commands.event_schemas import TOKEN, definitions_of
from penstock.worker.settings.keys import Settings

Document = dict[str, Any]

_SCHEMAS = "#/components/schemas/"
_CONTENT_TYPE = "application/cloudevents+json"
_AMQP_VERSION, _NATS_VERSION = "0.3.0", "0.1.0"


def asyncapi(catalogue: Catalogue, settings: Settings) -> str:
    """The document, with the addresses of ``settings`` but no login."""
    kinds = catalogue.types
    document = {
        "asyncapi": "3.0.0",
        "info": _INFO,
        "defaultContentType": _CONTENT_TYPE,
        "servers": _servers(settings),
        "channels": {name: _channel(kind, settings) for name, kind in kinds.items()},
        "operations": {name: _operation(kind) for name, kind in kinds.items()},
        "components": {
            "messages": {name: _message(kind) for name, kind in kinds.items()},
            "schemas": definitions_of(catalogue, _SCHEMAS),
        },
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


_INFO: Document = {
    "title": "Penstock events",
    "version": __version__,
    "description": "CloudEvents 1.0 that Penstock stores in PostgreSQL, over NATS JetStream or "
    "RabbitMQ. Structured mode is described; binary mode is read as well.",
    "license": {"name": "Apache-2.0"},
}


def _servers(settings: Settings) -> Document:
    entries = {name: BROKERS[name] for name in settings.brokers}
    return {
        name: {**_place(entry.address(settings)), "description": entry.confirms}
        for name, entry in entries.items()
        if entry.address is not None
    }


def _place(url: str) -> Document:
    parts = urlsplit(url)
    host = f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
    return {"host": host, "protocol": parts.scheme}


def _channel(kind: EventType, settings: Settings) -> Document:
    exchange = {
        "name": settings.rabbitmq_exchange,
        "type": "topic",
        "durable": True,
        "autoDelete": False,
        "vhost": unquote(urlsplit(settings.rabbitmq_url).path[1:]) or "/",
    }
    return {
        "address": f"{kind.prefix}{{subject}}{kind.suffix}",
        "title": kind.name,
        "summary": kind.spec.summary,
        "parameters": {"subject": {"description": f"The {kind.spec.key}. {TOKEN['description']}"}},
        "messages": {"event": {"$ref": f"#/components/messages/{kind.name}"}},
        "bindings": {
            "amqp": {"is": "routingKey", "exchange": exchange, "bindingVersion": _AMQP_VERSION}
        },
        "x-jetstream-stream": kind.stream,
    }


def _operation(kind: EventType) -> Document:
    return {
        "action": "receive",
        "summary": kind.spec.summary,
        "channel": {"$ref": f"#/channels/{kind.name}"},
        "messages": [{"$ref": f"#/channels/{kind.name}/messages/event"}],
        "bindings": {
            "nats": {"bindingVersion": _NATS_VERSION},
            "amqp": {
                "deliveryMode": 2,
                "mandatory": True,
                "ack": True,
                "bindingVersion": _AMQP_VERSION,
            },
        },
    }


def _message(kind: EventType) -> Document:
    return {
        "name": kind.name,
        "summary": kind.spec.summary,
        "contentType": _CONTENT_TYPE,
        "headers": _HEADERS,
        "payload": {"$ref": f"{_SCHEMAS}{kind.name}"},
        "bindings": {"amqp": {"messageType": kind.name, "bindingVersion": _AMQP_VERSION}},
        "examples": [{"name": kind.name, "payload": example_of(kind)}],
    }


_HEADERS: Document = {
    "type": "object",
    "properties": {
        "Nats-Msg-Id": {
            "type": "string",
            "description": "NATS only: the key of the event. Within its duplicate window the "
            "stream stores one message of an id; PostgreSQL stores one ever.",
        }
    },
}
