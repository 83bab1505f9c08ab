"""Events about alerts, which Penstock sends itself. The key is the metric."""

from penstock.schemas.event import EventData, Json, Name, Text
from penstock.schemas.mapping import AuditLog, event


@event("alerts.raised", key="metric", history=AuditLog("alert"))
class AlertRaised(EventData, frozen=True, kw_only=True):
    """A metric is beyond a threshold, or beyond a worse one than before.

    ``level`` is ``warning`` or ``critical``. ``thing`` is which table, standby or entity was
    measured, ``channels`` whom to tell, as the threshold has it.
    """

    metric: Name
    level: Text
    value: float
    threshold: float | None = None
    thing: Text = ""
    channels: Json = None


@event("alerts.resolved", key="metric", history=AuditLog("alert"))
class AlertResolved(EventData, frozen=True, kw_only=True):
    """An alert is over: the values are ``good`` again, the metric has been ``silent`` for too long,
    or its threshold was ``withdrawn``. Only good ones have a ``value``.
    """

    metric: Name
    value: float | None = None
    reason: Text = "good"
    thing: Text = ""
    channels: Json = None
