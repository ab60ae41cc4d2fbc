"""The fixtures that every test may use."""

from tests.azurite import _accounts, azurite, empty_storage

__all__ = ["_accounts", "azurite", "empty_storage"]
