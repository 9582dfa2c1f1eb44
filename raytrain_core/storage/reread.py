"""A store for somebody who reads the same objects again and again, such as a live page."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from raytrain_core.storage.store import Stat, Store, Stored


class RereadStore:
    """Gets an object again only if the last listing that names it says that it has changed.

    Objects that no listing named are read from the store each time. So a reader lists first and
    then gets. Keeps the bytes of what was listed and read: meant for small objects. Everything
    else goes to the store itself, whose errors these are. For one thread at a time, or several
    that read.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._listed: dict[str, str] = {}
        self._read: dict[str, tuple[str, bytes]] = {}

    @property
    def uri(self) -> str:
        """The URI of the store itself."""
        return self._store.uri

    def list(self, prefix: str) -> Iterator[Stat]:
        """Lists anew, and forgets what is gone."""
        found = [*self._store.list(prefix)]
        gone = {key for key in self._listed if key.startswith(prefix)} - {stat.key for stat in found}
        for key in gone:
            self._forget(key)
        self._listed |= {stat.key: stat.etag for stat in found}
        yield from found

    def get(self, key: str) -> bytes:
        """Returns the bytes read before if the object was listed since, and is the same."""
        etag = self._listed.get(key)
        if etag is None:
            return self._store.get(key)
        known = self._read.get(key)
        if known is not None and known[0] == etag:
            return known[1]
        data = self._store.get(key)
        self._read[key] = etag, data
        return data

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """Puts, and forgets what was read."""
        self._forget(key)
        self._store.put(key, data, if_absent=if_absent)

    def upload(self, key: str, path: Path, *, if_absent: bool = False) -> Stored:
        """Uploads, and forgets what was read."""
        self._forget(key)
        return self._store.upload(key, path, if_absent=if_absent)

    def download(self, key: str, path: Path, *, sha256: str | None = None) -> None:
        """Downloads."""
        self._store.download(key, path, sha256=sha256)

    def stat(self, key: str) -> Stat | None:
        """Asks the store."""
        return self._store.stat(key)

    def delete(self, keys: Iterable[str]) -> None:
        """Deletes, and forgets what was read."""
        gone = [*keys]
        for key in gone:
            self._forget(key)
        self._store.delete(gone)

    def _forget(self, key: str) -> None:
        self._listed.pop(key, None)
        self._read.pop(key, None)
