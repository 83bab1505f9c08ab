"""The two kinds that are not Kubernetes' own, as far as our manifests use them.

Written by hand from the documentation of the Prometheus operator and of KEDA: their own schemas
come with whole controllers. A field that is not listed here is taken for a slip of the pen.
"""

from typing import Any


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


_TEXT = {"type": "string", "minLength": 1}
_NUMBER_AS_TEXT = {"type": "string", "pattern": "^[0-9]+$"}
_TRUTH_AS_TEXT = {"enum": ["true", "false"]}
_LENGTH_OF_TIME = {"type": "string", "pattern": "^[0-9]+(ms|s|m)$"}
_COUNT = {"type": "integer", "minimum": 0}
_LABELS = {"type": "object", "additionalProperties": _TEXT}
_METADATA = _object(["name"], name=_TEXT, namespace=_TEXT, labels=_LABELS)


def _kind(version: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return _object(
        ["apiVersion", "kind", "metadata", "spec"],
        apiVersion={"const": version},
        kind={"const": name},
        metadata=_METADATA,
        spec=spec,
    )


_ENDPOINT = _object(
    ["port"], port=_TEXT, path=_TEXT, interval=_LENGTH_OF_TIME, scrapeTimeout=_LENGTH_OF_TIME
)
_MONITOR = _object(
    ["selector", "endpoints"],
    selector=_object(["matchLabels"], matchLabels=_LABELS),
    endpoints={"type": "array", "minItems": 1, "items": _ENDPOINT},
)

_NATS_TRIGGER = _object(
    ["type", "metadata"],
    type={"const": "nats-jetstream"},
    metadata=_object(
        ["natsServerMonitoringEndpoint", "account", "stream", "consumer"],
        natsServerMonitoringEndpoint=_TEXT,
        account=_TEXT,
        stream=_TEXT,
        consumer=_TEXT,
        lagThreshold=_NUMBER_AS_TEXT,
        activationLagThreshold=_NUMBER_AS_TEXT,
        useHttps=_TRUTH_AS_TEXT,
    ),
)
_RABBITMQ_TRIGGER = _object(
    ["type", "metadata", "authenticationRef"],
    type={"const": "rabbitmq"},
    metadata=_object(
        ["protocol", "queueName", "mode", "value"],
        protocol={"enum": ["amqp", "http", "auto"]},
        queueName=_TEXT,
        mode={"enum": ["QueueLength", "MessageRate"]},
        value=_NUMBER_AS_TEXT,
        excludeUnacknowledged=_TRUTH_AS_TEXT,
        vhostName=_TEXT,
    ),
    authenticationRef=_object(["name"], name=_TEXT),
)
_SCALED = _object(
    ["scaleTargetRef", "triggers"],
    scaleTargetRef=_object(["name"], name=_TEXT),
    minReplicaCount=_COUNT,
    maxReplicaCount=_COUNT,
    pollingInterval=_COUNT,
    cooldownPeriod=_COUNT,
    advanced=_object(
        ["horizontalPodAutoscalerConfig"],
        # Handed on to Kubernetes as it is.
        horizontalPodAutoscalerConfig=_object(["behavior"], behavior={"type": "object"}),
    ),
    triggers={
        "type": "array",
        "minItems": 1,
        "items": {"oneOf": [_NATS_TRIGGER, _RABBITMQ_TRIGGER]},
    },
)
_SECRET_REF = _object(["parameter", "name", "key"], parameter=_TEXT, name=_TEXT, key=_TEXT)
_AUTHENTICATION = _object(
    ["secretTargetRef"],
    secretTargetRef={"type": "array", "minItems": 1, "items": _SECRET_REF},
)

CUSTOM_KINDS = {
    "ServiceMonitor": _kind("monitoring.coreos.com/v1", "ServiceMonitor", _MONITOR),
    "ScaledObject": _kind("keda.sh/v1alpha1", "ScaledObject", _SCALED),
    "TriggerAuthentication": _kind("keda.sh/v1alpha1", "TriggerAuthentication", _AUTHENTICATION),
}
"""JSON Schema by kind."""
