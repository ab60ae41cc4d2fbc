"""What the simulated Graph has served to one tenant's clients."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass
class Counters:
    """`requests` are HTTP requests; `by_template` counts them and the items of batches, each under its own template."""

    tokens: int = 0
    tokens_refused: int = 0
    requests: int = 0
    batch_items: int = 0
    by_template: Counter[str] = field(default_factory=Counter)
    throttled: int = 0
    faulted: int = 0
    retry_violations: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "tokens": self.tokens,
            "tokensRefused": self.tokens_refused,
            "graph": {
                "requests": self.requests,
                "batchPosts": self.by_template["POST /$batch"],
                "batchItems": self.batch_items,
                "byTemplate": dict(self.by_template),
                "throttled": self.throttled,
                "faulted": self.faulted,
                "retryViolations": self.retry_violations,
            },
        }


def total(every: Iterable[Counters]) -> Counters:
    """The sum of counters."""
    together = Counters()
    for counters in every:
        for each in fields(Counters):
            setattr(together, each.name, getattr(together, each.name) + getattr(counters, each.name))
    return together
