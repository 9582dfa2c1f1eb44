"""A store in a bucket prefix that verifies every write and read.

- Every body is sent with its SHA-256 (`x-amz-checksum-sha256`; for each part of a multipart upload
  too), so that the server refuses bytes damaged on the way; a damaged body is sent twice more.
- The object's sha256 and a token of the writing call are stored as object metadata.
- Small objects (up to 1 MiB) are read back and compared. For larger ones, the size and the SHA-256
  that the server computed (of the object, or of the parts' digests) are compared; if the server
  does not return it, the object is read back. An upload returns only after that.
- What a store does not support is done another way where that is safe (`Limit`), and logged once.
- Downloads check size and sha256 (the caller's, else the metadata's).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError
from s3transfer.exceptions import RetriesExceededError

from raytrain_core.errors import StorageError
from raytrain_core.storage.keys import check_key, check_prefix
from raytrain_core.storage.local import part_file
from raytrain_core.storage.s3_answers import Limit, metadata_of, refuse_web_page
from raytrain_core.storage.s3_client import ATTEMPTS
from raytrain_core.storage.s3_errors import status_of
from raytrain_core.storage.s3_requests import CutError, DamagedError, S3Requests
from raytrain_core.storage.s3_writes import VerifiedWrites
from raytrain_core.storage.store import CorruptError, NotFoundError, Stat, Stored, sha256_of_file

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

PART = 16 << 20  # bytes; larger files are uploaded in parts and downloaded in ranges of this size
_PAGE = 1000  # objects listed or deleted by one request; S3's limit
_THREADS = 4
_QUICK_ATTEMPTS = 3


class S3Store:
    """The objects of `bucket` below `prefix`. Connects at first use; thread-safe."""

    def __init__(
        self, bucket: str, prefix: str, endpoint: str | None, region: str | None, attempts: int = ATTEMPTS
    ) -> None:
        self.bucket, self.prefix, self.endpoint, self.region, self.attempts = bucket, prefix, endpoint, region, attempts
        self._s3 = S3Requests(bucket, endpoint, region, attempts)
        self._writes = VerifiedWrites(self._s3)

    def __reduce__(self) -> tuple[object, ...]:  # names only: the other process finds its own credentials
        return S3Store, (self.bucket, self.prefix, self.endpoint, self.region, self.attempts)

    def __repr__(self) -> str:
        return f"S3Store({self.uri!r}, endpoint={self.endpoint!r})"

    @property
    def uri(self) -> str:
        """s3://bucket/prefix."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def limits(self) -> frozenset[Limit]:
        """What the store turned out not to support, so far."""
        return frozenset(self._s3.limits)

    def impatient(self) -> "S3Store":
        """The same store, which tries a request three times."""
        return S3Store(self.bucket, self.prefix, self.endpoint, self.region, attempts=_QUICK_ATTEMPTS)

    def get(self, key: str) -> bytes:
        """Returns the object's bytes, verified against the sha256 in its metadata if it has one."""
        return self._s3.read(self._full(check_key(key)), None)[0]

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """Stores by one PutObject (conditional with `if_absent`), and verifies."""
        self._writes.put(self._full(check_key(key)), data, if_absent)

    def upload(self, key: str, path: Path, *, if_absent: bool = False) -> Stored:
        """Stores by one PutObject or, above 16 MiB, by a multipart upload."""
        full = self._full(check_key(key))
        try:
            size = path.stat().st_size
            if size <= PART:
                data = path.read_bytes()
                return Stored(key, len(data), self._writes.put(full, data, if_absent))
            return Stored(key, size, self._writes.put_parts(full, path, size, if_absent, PART))
        except OSError as error:
            raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from error

    def download(self, key: str, path: Path, *, sha256: str | None = None) -> None:
        """Downloads at once or, above 16 MiB, in parallel ranges.

        A damaged body is requested twice more.
        """
        full = self._full(check_key(key))
        head = self._s3.head(full)
        if head is None:
            raise NotFoundError(f"{self._s3.place(full)}: no such object")
        size = int(self._s3.needed(head, "ContentLength", full))
        kept = metadata_of(head).get("sha256")
        if sha256 is not None and kept is not None and kept != sha256:
            raise CorruptError(f"{self._s3.place(full)}: its sha256 is {kept}, expected {sha256}")
        expected = sha256 or kept

        def ranges(client: "S3Client", part: Path) -> None:
            with part.open("wb") as file:
                try:
                    client.download_fileobj(
                        self.bucket,
                        full,
                        file,
                        Config=TransferConfig(
                            multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=_THREADS
                        ),
                    )
                except RetriesExceededError as error:
                    raise CutError(str(error)) from error
                except ClientError as error:
                    if status_of(error) == 412:  # replaced between two ranges
                        raise DamagedError("the object changed while it was read") from error
                    raise
            if part.stat().st_size != size:
                raise DamagedError(f"received {part.stat().st_size:,} bytes instead of {size:,}")
            if expected is not None and (found := sha256_of_file(part)) != expected:
                raise DamagedError(f"received sha256 {found}, expected {expected}")

        with part_file(path, size) as part:
            if size <= PART:
                part.write_bytes(self._s3.read(full, expected)[0])
            else:
                self._s3.with_body(full, lambda client: ranges(client, part))

    def stat(self, key: str) -> Stat | None:
        """Returns the metadata of HeadObject; None if the key does not exist."""
        head = self._s3.head(self._full(check_key(key)))
        return None if head is None else self._stat(key, head, "ContentLength")

    def list(self, prefix: str) -> Iterator[Stat]:
        """Yields all pages of ListObjectsV2, sorted here because not every server sorts.

        Skips folder markers.
        """
        check_prefix(prefix)
        root = f"{self.prefix}/" if self.prefix else ""
        found = []
        token: str | None = ""
        while token is not None:
            page = self._page(root + prefix, token)
            refuse_web_page(page, self._s3.place(root + prefix), self.endpoint)
            found += [
                self._stat(entry["Key"][len(root) :], entry, "Size")
                for entry in page.get("Contents", [])
                if not entry["Key"].endswith("/")
            ]
            token = self._next(page, root + prefix) if page.get("IsTruncated") else None
        yield from sorted(found, key=lambda stat: stat.key)

    def _page(self, prefix: str, token: str) -> dict[str, Any]:
        def version_2(client: "S3Client") -> dict[str, Any]:
            more: Any = {"ContinuationToken": token} if token else {}
            return dict(client.list_objects_v2(Bucket=self.bucket, Prefix=prefix, MaxKeys=_PAGE, **more))

        def version_1(client: "S3Client") -> dict[str, Any]:
            return dict(client.list_objects(Bucket=self.bucket, Prefix=prefix, MaxKeys=_PAGE, Marker=token))

        return self._s3.or_instead(
            Limit.LIST_V2,
            lambda: self._s3.run("list", prefix, version_2),
            lambda: self._s3.run("list", prefix, version_1),
        )

    def _next(self, page: Mapping[str, Any], prefix: str) -> str:
        """Returns where the next page begins; ListObjects may leave it to the last key."""
        if Limit.LIST_V2 in self.limits:
            return str(page.get("NextMarker") or page["Contents"][-1]["Key"])
        return str(self._s3.needed(page, "NextContinuationToken", prefix))

    def delete(self, keys: Iterable[str]) -> None:
        """Deletes by DeleteObjects, a page at a time."""
        full = [self._full(check_key(key)) for key in keys]
        for start in range(0, len(full), _PAGE):
            batch = full[start : start + _PAGE]
            answer = self._s3.or_instead(
                Limit.MULTI_DELETE,
                partial(self._s3.run, "delete", batch[0], partial(self._delete_batch, batch)),
                partial(self._delete_each, batch),
            )
            refuse_web_page(answer, self._s3.place(batch[0]), self.endpoint)
            for error in answer.get("Errors", []):
                if error.get("Code") != "NoSuchKey":
                    raise StorageError(
                        f"s3://{self.bucket}/{error.get('Key')}: cannot delete: "
                        f"{error.get('Code')} {error.get('Message')}"
                    )

    def _delete_batch(self, keys: Sequence[str], client: "S3Client") -> dict[str, Any]:
        return dict(
            client.delete_objects(Bucket=self.bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True})
        )

    def _delete_each(self, keys: Sequence[str]) -> dict[str, Any]:
        def delete(key: str, client: "S3Client") -> object:
            return client.delete_object(Bucket=self.bucket, Key=key)

        for key in keys:
            with suppress(NotFoundError):
                self._s3.run("delete", key, partial(delete, key))
        return {}

    def _stat(self, key: str, answer: Mapping[str, Any], size: str) -> Stat:
        full = self._full(key)
        etag, modified = (
            self._s3.needed(answer, "ETag", full),
            self._s3.needed(answer, "LastModified", full),
        )
        return Stat(key, int(self._s3.needed(answer, size, full)), str(etag).strip('"'), modified.timestamp())

    def _full(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key
