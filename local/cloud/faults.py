"""What a test may make go wrong between a client and the simulated Graph, tenant by tenant."""

from random import Random
from typing import Literal

from pydantic import Field, PositiveInt

from local.cloud.model import Model

RESET = 0
RetryAfterStyle = Literal["seconds", "decimal", "date", "absent"]
ExpiredDelta = Literal["gone", "syncStateNotFound", "syncStateInvalid", "resyncRequired"]
ExpiredPage = Literal["Directory_ExpiredPageToken", "DirectoryPageTokenNotFoundException"]


class RetryAfter(Model):
    """How a refusal says when to come back. `seconds` is the pause of injected refusals; a spent budget computes its own."""

    style: RetryAfterStyle = "seconds"
    seconds: float = Field(default=1.0, ge=0)


class Oddity(Model):
    """Which calls are answered oddly, and how. What is left open fits every call and changes nothing.

    A call fits by `call`, its name in the journal, the `mailbox` it is about, a text that its `query` holds, and the
    status that it would be answered with (`of_status`). It is refused with `status` and `code`; or it is served without
    the query options of `ignore`, without the properties `drop` (dots lead into an object) of each event, and with some
    texts replaced by others.
    """

    call: str = ""
    mailbox: str = ""
    query: str = ""
    of_status: int | None = None
    status: int | None = None
    code: str = "UnknownError"
    retry_after: float | None = None
    ignore: list[str] = Field(default_factory=list)
    drop: list[str] = Field(default_factory=list)
    replace: dict[str, str] = Field(default_factory=dict)


class Faults(Model):
    """Rates are probabilities per request from 0 to 1, drawn from a generator that starts at `seed`."""

    latency_ms: float = Field(default=0, ge=0)
    units_per_10s: PositiveInt | None = Field(default=None, alias="unitsPer10s")
    rate_429: float = Field(default=0, ge=0, le=1, alias="rate429")
    rate_503: float = Field(default=0, ge=0, le=1, alias="rate503")
    rate_504: float = Field(default=0, ge=0, le=1, alias="rate504")
    rate_reset: float = Field(default=0, ge=0, le=1)
    rate_batch_item: float = Field(default=0, ge=0, le=1)
    retry_after: RetryAfter = RetryAfter()
    untidy_paging: bool = False
    delta_page: PositiveInt = 200
    retried_page_links_fail: bool = False
    expired_delta: ExpiredDelta = "gone"
    seed: int = 0
    mailbox_requests: PositiveInt = 10_000
    empty_rounds: int = Field(default=0, ge=0)
    silent_occurrence_deletes: bool = False
    delta_generations: PositiveInt = 8
    subscriptions_per_mailbox: int = Field(default=1000, ge=0)
    places_without_next_link: bool = False
    notification_copies: tuple[PositiveInt, PositiveInt] = (2, 4)
    notification_loss: float = Field(default=0, ge=0, le=1)
    notification_delay_ms: float = Field(default=0, ge=0)
    notification_shuffle: bool = False
    notification_before_201: bool = Field(default=False, alias="notificationBefore201")
    slow_after_ms: float = Field(default=3000, gt=0)
    too_slow_after_ms: float = Field(default=10_000, gt=0)
    odd: list[Oddity] = Field(default_factory=list)

    def draw(self, rng: Random) -> int | None:
        """The status that a whole request is refused with, RESET for a connection that is cut, None for no fault."""
        chance = rng.random()
        rates = ((self.rate_429, 429), (self.rate_503, 503), (self.rate_504, 504), (self.rate_reset, RESET))
        for rate, fault in rates:
            if chance < rate:
                return fault
            chance -= rate
        return None

    def draw_for_item(self, rng: Random) -> int | None:
        """The status that one request of a batch is refused with, or None."""
        return rng.choice([429, 503]) if rng.random() < self.rate_batch_item else None
