"""Blob Storage: the bytes of photos, named connection/user/content hash."""

from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import BlobServiceClient, ContentSettings


class Blobs:
    """One container. A name may hold any character that `storage.tables.encode_key` leaves."""

    def __init__(self, service: BlobServiceClient, container: str) -> None:
        self._container = service.get_container_client(container)

    def create(self) -> None:
        """Make the container if it is missing."""
        if not self._container.exists():
            self._container.create_container()

    def save(self, name: str, data: bytes, content_type: str) -> None:
        """Write `data` under `name`, over anything that is there."""
        settings = ContentSettings(content_type=content_type)
        self._container.upload_blob(name, data, overwrite=True, content_settings=settings)

    def load(self, name: str) -> bytes | None:
        """The bytes, or None where there are none."""
        try:
            return self._container.download_blob(name).readall()
        except ResourceNotFoundError:
            return None

    def delete(self, name: str) -> None:
        """Remove it; a missing one is fine."""
        try:
            self._container.delete_blob(name)
        except ResourceNotFoundError:
            return

    def delete_all(self, prefix: str) -> int:
        """Remove every blob whose name begins with `prefix`; returns how many there were."""
        count = 0
        for name in self._container.list_blob_names(name_starts_with=prefix):
            self.delete(name)
            count += 1
        return count

    def ping(self) -> None:
        """One small read; raises the SDK's error where storage does not answer."""
        self._container.exists()
