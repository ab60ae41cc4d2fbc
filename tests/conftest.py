"""The fixtures that every test may use, and how Hypothesis runs."""

from hypothesis import HealthCheck, settings

from tests.azurite import _accounts, azurite, empty_storage
from tests.cloud import cloud, new_tenant, tenant
from tests.club import club
from tests.held import crowd
from tests.house import build_house, house, shared_house
from tests.unmeasured import unmeasured
from tests.webhooks import listening, reachable, webhooks

__all__ = [
    "_accounts",
    "azurite",
    "build_house",
    "cloud",
    "club",
    "crowd",
    "empty_storage",
    "house",
    "listening",
    "new_tenant",
    "reachable",
    "shared_house",
    "tenant",
    "unmeasured",
    "webhooks",
]

# How fast the machine is says nothing about the code: both would fail where other programs run beside the tests.
settings.register_profile("any-machine", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")
