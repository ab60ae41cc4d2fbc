"""The fixtures that every test may use."""

from tests.azurite import _accounts, azurite, empty_storage
from tests.cloud import cloud, new_tenant, tenant
from tests.house import build_house, house

__all__ = ["_accounts", "azurite", "build_house", "cloud", "empty_storage", "house", "new_tenant", "tenant"]
