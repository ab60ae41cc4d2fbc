"""Subscriptions to changes, and the notifications that are under way to their receivers."""

from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any, Literal
from uuid import UUID

Properties = dict[str, Any]
Mode = Literal["send", "collect"]


@dataclass
class Subscription:
    """`mailbox` is whose events it watches; None for a resource that this cloud takes but never reports on.

    `immutable`: the ids in its notifications are immutable ones.
    """

    id: str
    app_id: str
    principal_id: str
    resource: str
    change_types: tuple[str, ...]
    notification_url: str
    lifecycle_url: str | None
    client_state: str | None
    expires: datetime
    mailbox: UUID | None
    immutable: bool
    tls: str | None = None


@dataclass
class Notice:
    """One item of a POST. `due` and `queued` are the tenant's time; `first` is when it was first tried."""

    url: str
    item: Properties
    queued: datetime
    due: datetime
    attempts: int = 0


@dataclass
class Receiver:
    """How one URL has answered lately: when, after how many seconds (Learn: Receive change notifications through
    webhooks, Slow and Drop)."""

    answers: deque[tuple[datetime, float]] = field(default_factory=lambda: deque(maxlen=10_000))
    slow_until: datetime | None = None
    drop_until: datetime | None = None


@dataclass
class Outbox:
    """In the mode `collect` nothing is sent until somebody asks for it."""

    mode: Mode = "send"
    waiting: list[Notice] = field(default_factory=list)
    receivers: dict[str, Receiver] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    rng: Random = field(default_factory=lambda: Random(0))
