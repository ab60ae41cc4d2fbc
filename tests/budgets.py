"""A record of the request budget for tests."""

from sync.graph.budget import BudgetState

T = 1_800_000_000.0


class Record:
    """A budget store of the tests: one record in memory, every transaction counted."""

    def __init__(self, state: BudgetState = BudgetState(), *, rivals: int = 0) -> None:  # noqa: B008 - frozen, so it may be shared
        self.state = state
        self.version = 0
        self.transactions = 0
        self.rivals = rivals

    def load(self) -> tuple[BudgetState, str | None]:
        self.transactions += 1
        return self.state, str(self.version)

    def save(self, state: BudgetState, etag: str | None) -> bool:
        self.transactions += 1
        if self.rivals:
            self.rivals, self.version = self.rivals - 1, self.version + 1
        if etag != str(self.version):
            return False
        self.state, self.version = state, self.version + 1
        return True
