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

import base64
import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import (
    ClientError,
    ConnectionError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
)
from s3transfer.exceptions import RetriesExceededError

from raytrain_core.errors import StorageError
from raytrain_core.storage.local import part_file
from raytrain_core.storage.s3_answers import Limit, is_web_page, metadata_of, needed
from raytrain_core.storage.s3_client import ATTEMPTS, Connection, connect
from raytrain_core.storage.s3_errors import (
    S3_ERRORS,
    code_of,
    explain,
    is_about_credentials,
    may_be_unsupported,
    not_s3,
    status_of,
)
from raytrain_core.storage.store import (
    AlreadyExistsError,
    CorruptError,
    NotFoundError,
    Stat,
    Stored,
    sha256_of,
    sha256_of_file,
)
from raytrain_core.storage.uri import check_key, check_prefix

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

PART = 16 << 20  # bytes; larger files are uploaded in parts and downloaded in ranges of this size
READ_BACK = 1 << 20
_PAGE = 1000  # objects listed or deleted by one request; S3's limit
_THREADS = 4
_MAX_PARTS = 9_000  # S3 allows 10,000
_CORRUPT_TRIES = 3
_CUT_TRIES = 5
_CONFLICT_TRIES = 5

_TOKEN_FILE = "AWS_WEB_IDENTITY_TOKEN_FILE"  # read again whenever credentials are renewed
_FILE_ERRORS = (FileNotFoundError, PermissionError)
_LOG = logging.getLogger(__name__)

_CUT = (HTTPClientError, ConnectionError, IncompleteReadError, RetriesExceededError)
T = TypeVar("T")

# Signals between the methods below; StorageErrors, so that an unexpected one is still a message for
# the user.


class _CutError(StorageError):
    """The connection broke within a body."""


class _DamagedError(StorageError):
    """A body does not match its size or checksum."""


class _RefusedError(StorageError):
    """A condition was not met (412, 409), or the multipart upload is gone (404)."""

    def __init__(self, place: str, status: int) -> None:
        super().__init__(f"{place}: the store refused a conditional request ({status})")
        self.status = status


class _UnsupportedError(StorageError):
    """The store may not know the operation, or a header of it."""


class S3Store:
    """The objects of `bucket` below `prefix`. Connects at first use; thread-safe."""

    def __init__(
        self, bucket: str, prefix: str, endpoint: str | None, region: str | None, attempts: int = ATTEMPTS
    ) -> None:
        self.bucket, self.prefix, self.endpoint, self.region, self.attempts = bucket, prefix, endpoint, region, attempts
        self.limits: set[Limit] = set()
        self._connection: Connection | None = None
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[object, ...]:  # names only: the other process finds its own credentials
        return S3Store, (self.bucket, self.prefix, self.endpoint, self.region, self.attempts)

    def __repr__(self) -> str:
        return f"S3Store({self.uri!r}, endpoint={self.endpoint!r})"

    @property
    def uri(self) -> str:
        """s3://bucket/prefix."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def get(self, key: str) -> bytes:
        """Returns the object's bytes, verified against the sha256 in its metadata if it has one."""
        return self._read(self._full(check_key(key)), None)[0]

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """Stores by one PutObject (conditional with `if_absent`), and verifies."""
        self._put(self._full(check_key(key)), data, if_absent)

    def upload(self, key: str, path: Path, *, if_absent: bool = False) -> Stored:
        """Stores by one PutObject or, above 16 MiB, by a multipart upload."""
        full = self._full(check_key(key))
        try:
            size = path.stat().st_size
            if size <= PART:
                data = path.read_bytes()
                return Stored(key, len(data), self._put(full, data, if_absent))
            return Stored(key, size, self._put_parts(full, path, size, if_absent))
        except OSError as error:
            raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from error

    def download(self, key: str, path: Path, *, sha256: str | None = None) -> None:
        """Downloads at once or, above 16 MiB, in parallel ranges.

        A damaged body is requested twice more.
        """
        full = self._full(check_key(key))
        head = self._head(full)
        if head is None:
            raise NotFoundError(f"{self._place(full)}: no such object")
        size = int(self._needed(head, "ContentLength", full))
        kept = metadata_of(head).get("sha256")
        if sha256 is not None and kept is not None and kept != sha256:
            raise CorruptError(f"{self._place(full)}: its sha256 is {kept}, expected {sha256}")
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
                    raise _CutError(str(error)) from error
                except ClientError as error:
                    if status_of(error) == 412:  # replaced between two ranges
                        raise _DamagedError("the object changed while it was read") from error
                    raise
            if part.stat().st_size != size:
                raise _DamagedError(f"received {part.stat().st_size:,} bytes instead of {size:,}")
            if expected is not None and (found := sha256_of_file(part)) != expected:
                raise _DamagedError(f"received sha256 {found}, expected {expected}")

        with part_file(path, size) as part:
            if size <= PART:
                part.write_bytes(self._read(full, expected)[0])
            else:
                self._with_body(full, lambda client: ranges(client, part))

    def stat(self, key: str) -> Stat | None:
        """Returns the metadata of HeadObject; None if the key does not exist."""
        head = self._head(self._full(check_key(key)))
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

        return self._or_instead(
            Limit.LIST_V2,
            lambda: self._run("list", prefix, version_2),
            lambda: self._run("list", prefix, version_1),
        )

    def _next(self, page: Mapping[str, Any], prefix: str) -> str:
        """Returns where the next page begins; ListObjects may leave it to the last key."""
        if Limit.LIST_V2 in self.limits:
            return str(page.get("NextMarker") or page["Contents"][-1]["Key"])
        return str(self._needed(page, "NextContinuationToken", prefix))

    def delete(self, keys: Iterable[str]) -> None:
        """Deletes by DeleteObjects, a page at a time."""
        full = [self._full(check_key(key)) for key in keys]
        for start in range(0, len(full), _PAGE):
            batch = full[start : start + _PAGE]
            answer = self._or_instead(
                Limit.MULTI_DELETE,
                lambda batch=batch: self._run("delete", batch[0], partial(self._delete_batch, batch)),  # type: ignore[misc]
                lambda batch=batch: self._delete_each(batch),  # type: ignore[misc]
            )
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
        for key in keys:
            with suppress(NotFoundError):
                self._run("delete", key, lambda client, key=key: client.delete_object(Bucket=self.bucket, Key=key))  # type: ignore[misc]
        return {}

    # Reading

    def _head(self, full: str, **more: Any) -> dict[str, Any] | None:
        """Returns HeadObject's response; None if the key does not exist."""

        def ask(client: "S3Client") -> dict[str, Any] | None:
            try:
                return dict(client.head_object(Bucket=self.bucket, Key=full, **more))
            except ClientError as error:
                if status_of(error) == 404:
                    return None
                if status_of(error) in (400, 403):  # a HEAD has no body with the reason: use GET
                    with suppress(client.exceptions.NoSuchKey):
                        client.get_object(Bucket=self.bucket, Key=full, Range="bytes=0-0")["Body"].close()
                raise

        return self._run("read", full, ask)

    def _read(self, full: str, sha256: str | None) -> tuple[bytes, dict[str, Any]]:
        """Returns bytes and headers of a small object, verified by `sha256` or its metadata."""

        def read(client: "S3Client") -> tuple[bytes, dict[str, Any]]:
            answer: dict[str, Any] = dict(client.get_object(Bucket=self.bucket, Key=full))
            try:
                data = answer["Body"].read()
            except FlexibleChecksumError as error:
                raise _DamagedError(str(error)) from error
            except _CUT as error:
                raise _CutError(str(error)) from error
            expected = sha256 or metadata_of(answer).get("sha256")
            if is_web_page(data) and (expected not in (None, sha256_of(data)) or "ETag" not in answer):
                raise not_s3(self._place(full), self.endpoint or "AWS", "it is a web page")
            if expected is not None and sha256_of(data) != expected:
                raise _DamagedError(f"received sha256 {sha256_of(data)}, expected {expected}")
            return data, answer

        return self._with_body(full, read)

    def _with_body(self, full: str, read: Callable[["S3Client"], T]) -> T:
        """Reads a body; repeats the request if the connection broke or the body was damaged."""
        cuts = damages = 0
        while True:
            try:
                return self._run("read", full, read)
            except _DamagedError as error:
                damages += 1
                if damages == _CORRUPT_TRIES:
                    raise CorruptError(f"{self._place(full)}: damaged: {error} ({_CORRUPT_TRIES} tries)") from None
            except _CutError as error:
                cuts += 1
                if cuts == _CUT_TRIES:
                    raise StorageError(
                        f"{self._place(full)}: the connection broke {cuts} times while reading ({error})",
                        hint="Check the network; run the same command again.",
                    ) from None
                time.sleep(0.1 * 2**cuts)

    # Writing

    def _put(self, full: str, data: bytes, if_absent: bool) -> str:
        sha256, writer = sha256_of(data), uuid4().hex

        def send(client: "S3Client", checksum: dict[str, Any]) -> None:
            client.put_object(
                Bucket=self.bucket,
                Key=full,
                Body=data,
                Metadata={"sha256": sha256, "writer": writer},
                **checksum,
                **_condition(if_absent),
            )

        with_checksum = {"ChecksumSHA256": _base64(hashlib.sha256(data).digest())}
        self._make_visible(
            full, lambda: self._send(full, send, with_checksum), writer=writer, sha256=sha256, if_absent=if_absent
        )
        self._verify(full, len(data), sha256, _base64(bytes.fromhex(sha256)), writer)
        return sha256

    def _put_parts(self, full: str, path: Path, size: int, if_absent: bool) -> str:
        if if_absent and self._head(full) is not None:  # saves the upload; completing it decides
            raise AlreadyExistsError(f"{self._place(full)}: exists already")
        part_size = max(PART, -(-size // _MAX_PARTS))
        sha256, digests = _digests(path, part_size)
        writer = uuid4().hex
        metadata = {"sha256": sha256, "writer": writer}
        started = self._send(
            full,
            lambda client, checksum: client.create_multipart_upload(
                Bucket=self.bucket, Key=full, Metadata=metadata, **checksum
            ),
            {"ChecksumAlgorithm": "SHA256"},
        )
        upload = str(self._needed(started, "UploadId", full))
        try:
            with path.open("rb") as file:

                def send_part(number: int) -> dict[str, Any]:
                    body = os.pread(file.fileno(), part_size, (number - 1) * part_size)
                    checksum = {"ChecksumSHA256": _base64(digests[number - 1])}
                    answer = self._send(
                        full,
                        lambda client, checksum: client.upload_part(
                            Bucket=self.bucket, Key=full, UploadId=upload, PartNumber=number, Body=body, **checksum
                        ),
                        checksum,
                    )
                    known = {} if Limit.CHECKSUMS in self.limits else checksum
                    return {"PartNumber": number, "ETag": self._needed(answer, "ETag", full), **known}

                pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="s3-upload")
                try:
                    parts = list(pool.map(send_part, range(1, len(digests) + 1)))
                finally:
                    pool.shutdown(cancel_futures=True)

            def complete(client: "S3Client") -> object:
                return client.complete_multipart_upload(
                    Bucket=self.bucket,
                    Key=full,
                    UploadId=upload,
                    MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]
                    **_condition(if_absent),
                )

            self._make_visible(
                full, lambda: self._undamaged(full, complete), writer=writer, sha256=sha256, if_absent=if_absent
            )
            composite = f"{_base64(hashlib.sha256(b''.join(digests)).digest())}-{len(digests)}"
            self._verify(full, size, sha256, composite, writer)
        except BaseException:
            with suppress(StorageError):  # parts without an object cost money; buckets can also expire them
                self._run(
                    "write",
                    full,
                    lambda client: client.abort_multipart_upload(Bucket=self.bucket, Key=full, UploadId=upload),
                )
            raise
        return sha256

    def _make_visible(
        self, full: str, send: Callable[[], object], *, writer: str, sha256: str, if_absent: bool
    ) -> None:
        """Sends the request that makes the object visible.

        Raises AlreadyExistsError if another writer won.
        """
        for remaining in reversed(range(_CONFLICT_TRIES)):
            try:
                send()
            except _RefusedError as refusal:
                # the response to an earlier, successful attempt may have been lost and the request
                # repeated
                if self._is_ours(full, writer, sha256):
                    return
                if refusal.status == 409 and remaining:  # two writers at once, none has won yet
                    time.sleep(0.05 * (_CONFLICT_TRIES - remaining))
                    continue
                if refusal.status == 404:
                    raise StorageError(f"{self._place(full)}: the upload was aborted by another process") from None
                raise AlreadyExistsError(f"{self._place(full)}: exists already") from None
            except _UnsupportedError as error:
                if not if_absent:
                    raise
                raise StorageError(
                    f"{self._place(full)} at {self.endpoint or 'AWS'}: the store refuses conditional writes "
                    f"(If-None-Match), so two drivers of one run could not detect each other ({error.message})",
                    hint="Use a store that supports them, such as AWS S3, SeaweedFS, MinIO or Ceph.",
                ) from None
            else:
                return

    def _send(self, full: str, send: Callable[["S3Client", dict[str, Any]], T], checksum: dict[str, Any]) -> T:
        """Sends with a checksum; without one to a store that takes none."""
        return self._or_instead(
            Limit.CHECKSUMS,
            lambda: self._undamaged(full, lambda client: send(client, checksum)),
            lambda: self._undamaged(full, lambda client: send(client, {})),
        )

    def _undamaged(self, full: str, send: Callable[["S3Client"], T]) -> T:
        """Sends a body; repeats it if the server reports that it arrived damaged."""
        for remaining in reversed(range(_CORRUPT_TRIES)):
            try:
                return self._run("write", full, send)
            except _DamagedError as error:
                if not remaining:
                    raise CorruptError(
                        f"{self._place(full)}: the body arrived damaged {_CORRUPT_TRIES} times ({error})",
                        hint="The network may be damaging data, or the file changed while it was uploaded.",
                    ) from None
        raise AssertionError("unreachable")

    def _is_ours(self, full: str, writer: str, sha256: str) -> bool:
        """Whether this call wrote the object that the store now refuses to write.

        Where the store drops metadata, equal bytes are taken for ours: whatever is put only if
        absent holds something that no other writer has (an attempt's token, an event's time).
        """
        head = self._head(full)
        if head is None:
            return False
        if (found := self._writer_in(head)) is not None:
            return found == writer
        return self._with_body(full, lambda client: self._hash(client, full)) == sha256

    def _writer_in(self, head: Mapping[str, Any]) -> str | None:
        """Returns who wrote an object; None if the store has dropped its metadata."""
        found = metadata_of(head).get("writer")
        if found is None:
            self._note(Limit.METADATA)
        return found

    def _is_replaced(self, head: Mapping[str, Any] | None, writer: str) -> bool:
        """Whether another writer has replaced or removed the object, who answers for it then."""
        return head is None or self._writer_in(head) not in (writer, None)

    def _verify(self, full: str, size: int, sha256: str, checksum: str, writer: str) -> None:
        """Verifies what is stored.

        Removes the object and raises CorruptError if it is not what was sent.
        """
        if size <= READ_BACK:
            self._verify_by_reading(full, sha256, writer)
        else:
            self._verify_by_checksum(full, size, sha256, checksum, writer)

    def _verify_by_reading(self, full: str, sha256: str, writer: str) -> None:
        try:
            self._read(full, sha256)
        except NotFoundError:
            raise CorruptError(f"{self._place(full)}: reported as stored, but it is not there") from None
        except CorruptError:
            if self._is_replaced(self._head(full), writer):
                return
            self._remove(full)
            raise

    def _verify_by_checksum(self, full: str, size: int, sha256: str, checksum: str, writer: str) -> None:
        head = self._or_instead(
            Limit.CHECKSUMS, lambda: self._head(full, ChecksumMode="ENABLED"), lambda: self._head(full)
        )
        if head is None:
            raise CorruptError(f"{self._place(full)}: reported as stored, but it is not there")
        if self._is_replaced(head, writer):
            return
        wrong = None
        stored = int(self._needed(head, "ContentLength", full))
        if stored != size:
            wrong = f"{stored:,} bytes are stored instead of {size:,}"
        elif "ChecksumSHA256" in head:
            if head["ChecksumSHA256"] != checksum:
                wrong = f"the store computed {head['ChecksumSHA256']} instead of {checksum}"
        elif (found := self._with_body(full, lambda client: self._hash(client, full))) != sha256:
            wrong = f"it reads back with sha256 {found} instead of {sha256}"
        if wrong is not None:
            self._remove(full)
            raise CorruptError(f"{self._place(full)}: {wrong}")

    def _remove(self, full: str) -> None:
        """Tries to remove a damaged object.

        It is worse than none, above all under a content address.
        """
        with suppress(StorageError):
            self._run("delete", full, lambda client: client.delete_object(Bucket=self.bucket, Key=full))

    def _hash(self, client: "S3Client", full: str) -> str:
        digest = hashlib.sha256()
        try:
            for chunk in client.get_object(Bucket=self.bucket, Key=full)["Body"].iter_chunks(1 << 20):
                digest.update(chunk)
        except FlexibleChecksumError as error:
            raise _DamagedError(str(error)) from error
        except _CUT as error:
            raise _CutError(str(error)) from error
        return digest.hexdigest()

    # What a store answers and cannot do

    def _or_instead(self, limit: Limit, call: Callable[[], T], instead: Callable[[], T]) -> T:
        """Makes a call; if the store does not support it, the other one, from then on."""
        if limit not in self.limits:
            try:
                return call()
            except _UnsupportedError:
                result = instead()  # only if this succeeds, the limit was the reason
                self._note(limit)
                return result
        return instead()

    def _note(self, limit: Limit) -> None:
        if limit not in self.limits:
            self.limits.add(limit)
            _LOG.warning("%s at %s: %s", self.uri, self.endpoint or "AWS", limit.value)

    def _needed(self, answer: Mapping[str, Any], name: str, full: str) -> Any:
        return needed(answer, name, self._place(full), self.endpoint)

    def _stat(self, key: str, answer: Mapping[str, Any], size: str) -> Stat:
        full = self._full(key)
        etag, modified = self._needed(answer, "ETag", full), self._needed(answer, "LastModified", full)
        return Stat(key, int(self._needed(answer, size, full)), str(etag).strip('"'), modified.timestamp())

    # Connection

    def _place(self, full: str) -> str:
        return f"s3://{self.bucket}/{full}"

    def _full(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def _connect(self) -> Connection:
        with self._lock:
            if self._connection is None:
                try:
                    self._connection = connect(self.bucket, self.endpoint, self.region, self.attempts)
                except (*S3_ERRORS, OSError) as error:  # OSError: a file with credentials
                    raise explain(
                        error, "connect", self.bucket, "", endpoint=self.endpoint, source="AWS configuration"
                    ) from error
            return self._connection

    def _renewed(self, used: Connection) -> bool:
        """Whether credentials have changed since these were refused (a rotated file or token)."""
        with self._lock:
            if self._connection is not used:  # another thread has renewed them
                return True
            fresh = connect(self.bucket, self.endpoint, self.region, self.attempts)
            if fresh.credentials is None or fresh.credentials == used.credentials:
                return False
            self._connection = fresh
            return True

    def _run(self, verb: str, full: str, call: Callable[["S3Client"], T]) -> T:
        """Makes a call and turns errors into messages.

        Repeats it if credentials were renewed meanwhile.
        """
        for last in (False, True):
            connection = self._connect()
            try:
                return call(connection.client)
            except (*S3_ERRORS, *_FILE_ERRORS) as error:
                if isinstance(error, _FILE_ERRORS) and error.filename != os.environ.get(_TOKEN_FILE):
                    raise
                if is_about_credentials(error) and not last and self._renewed(connection):
                    continue
                if code_of(error) in ("BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"):
                    raise _DamagedError(code_of(error)) from error
                if code_of(error) in ("PreconditionFailed", "412"):
                    raise _RefusedError(self._place(full), 412) from error
                if code_of(error) in ("ConditionalRequestConflict", "OperationAborted", "409"):
                    raise _RefusedError(self._place(full), 409) from error
                if code_of(error) == "NoSuchUpload":
                    raise _RefusedError(self._place(full), 404) from error
                explained = explain(error, verb, self.bucket, full, endpoint=self.endpoint, source=connection.source)
                if may_be_unsupported(error):
                    raise _UnsupportedError(explained.message, hint=explained.hint) from error
                raise explained from error
        raise AssertionError("unreachable")


def _condition(if_absent: bool) -> dict[str, Any]:
    return {"IfNoneMatch": "*"} if if_absent else {}


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _digests(path: Path, part_size: int) -> tuple[str, list[bytes]]:
    """Returns the sha256 of the file (hex) and of each of its parts, in one pass."""
    whole, parts = hashlib.sha256(), []
    with path.open("rb") as file:
        while block := file.read(part_size):
            whole.update(block)
            parts.append(hashlib.sha256(block).digest())
    return whole.hexdigest(), parts
