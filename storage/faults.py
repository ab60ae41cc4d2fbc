"""What every store raises where it does not answer, or refuses without a reason of its own."""

from azure.core.exceptions import AzureError as StorageError

__all__ = ["StorageError"]
