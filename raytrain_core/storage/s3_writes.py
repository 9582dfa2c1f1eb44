"""Writes to a bucket that return only after what is stored was verified."""

import base64
import hashlib
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from raytrain_core.errors import StorageError
from raytrain_core.storage.s3_answers import Limit, metadata_of
from raytrain_core.storage.s3_requests import (
    CORRUPT_TRIES,
    DamagedError,
    RefusedError,
    S3Requests,
    UnsupportedError,
)
from raytrain_core.storage.store import AlreadyExistsError, CorruptError, NotFoundError, sha256_of

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

READ_BACK = 1 << 20  # bytes; smaller objects are read back and compared
_THREADS = 4
_MAX_PARTS = 9_000  # S3 allows 10,000
_CONFLICT_TRIES = 5

T = TypeVar("T")


class VerifiedWrites:
    """Puts objects at once or in parts, and verifies each (see `raytrain_core.storage.s3`)."""

    def __init__(self, requests: S3Requests) -> None:
        self._s3 = requests

    def put(self, full: str, data: bytes, if_absent: bool) -> str:
        """Stores small data by one PutObject and returns its sha256."""
        sha256, writer = sha256_of(data), uuid4().hex

        def send(client: "S3Client", checksum: dict[str, Any]) -> None:
            client.put_object(
                Bucket=self._s3.bucket,
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

    def put_parts(self, full: str, path: Path, size: int, if_absent: bool, part_bytes: int) -> str:
        """Stores a file by a multipart upload and returns its sha256."""
        if if_absent and self._s3.head(full) is not None:  # saves the upload; completing it decides
            raise AlreadyExistsError(f"{self._s3.place(full)}: exists already")
        part_size = max(part_bytes, -(-size // _MAX_PARTS))
        sha256, digests = _digests(path, part_size)
        writer = uuid4().hex
        metadata = {"sha256": sha256, "writer": writer}
        started = self._send(
            full,
            lambda client, checksum: client.create_multipart_upload(
                Bucket=self._s3.bucket, Key=full, Metadata=metadata, **checksum
            ),
            {"ChecksumAlgorithm": "SHA256"},
        )
        upload = str(self._s3.needed(started, "UploadId", full))
        try:
            with path.open("rb") as file:

                def send_part(number: int) -> dict[str, Any]:
                    body = os.pread(file.fileno(), part_size, (number - 1) * part_size)
                    checksum = {"ChecksumSHA256": _base64(digests[number - 1])}
                    answer = self._send(
                        full,
                        lambda client, checksum: client.upload_part(
                            Bucket=self._s3.bucket,
                            Key=full,
                            UploadId=upload,
                            PartNumber=number,
                            Body=body,
                            **checksum,
                        ),
                        checksum,
                    )
                    known = {} if Limit.CHECKSUMS in self._s3.limits else checksum
                    return {"PartNumber": number, "ETag": self._s3.needed(answer, "ETag", full), **known}

                pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="s3-upload")
                try:
                    parts = list(pool.map(send_part, range(1, len(digests) + 1)))
                finally:
                    pool.shutdown(cancel_futures=True)

            def complete(client: "S3Client") -> object:
                return client.complete_multipart_upload(
                    Bucket=self._s3.bucket,
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
                self._s3.run(
                    "write",
                    full,
                    lambda client: client.abort_multipart_upload(Bucket=self._s3.bucket, Key=full, UploadId=upload),
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
            except RefusedError as refusal:
                # the response to an earlier, successful attempt may have been lost and the request
                # repeated
                if self._is_ours(full, writer, sha256):
                    return
                if refusal.status == 409 and remaining:  # two writers at once, none has won yet
                    time.sleep(0.05 * (_CONFLICT_TRIES - remaining))
                    continue
                if refusal.status == 404:
                    raise StorageError(f"{self._s3.place(full)}: the upload was aborted by another process") from None
                raise AlreadyExistsError(f"{self._s3.place(full)}: exists already") from None
            except UnsupportedError as error:
                if not if_absent:
                    raise
                raise StorageError(
                    f"{self._s3.place(full)} at {self._s3.endpoint or 'AWS'}: the store refuses conditional writes "
                    f"(If-None-Match), so two drivers of one run could not detect each other ({error.message})",
                    hint="Use a store that supports them, such as AWS S3, SeaweedFS, MinIO or Ceph.",
                ) from None
            else:
                return

    def _send(self, full: str, send: Callable[["S3Client", dict[str, Any]], T], checksum: dict[str, Any]) -> T:
        """Sends with a checksum; without one to a store that takes none."""
        return self._s3.or_instead(
            Limit.CHECKSUMS,
            lambda: self._undamaged(full, lambda client: send(client, checksum)),
            lambda: self._undamaged(full, lambda client: send(client, {})),
        )

    def _undamaged(self, full: str, send: Callable[["S3Client"], T]) -> T:
        """Sends a body; repeats it if the server reports that it arrived damaged."""
        for remaining in reversed(range(CORRUPT_TRIES)):
            try:
                return self._s3.run("write", full, send)
            except DamagedError as error:
                if not remaining:
                    raise CorruptError(
                        f"{self._s3.place(full)}: the body arrived damaged {CORRUPT_TRIES} times ({error})",
                        hint="The network may be damaging data, or the file changed while it was uploaded.",
                    ) from None
        raise AssertionError("unreachable")

    def _is_ours(self, full: str, writer: str, sha256: str) -> bool:
        """Whether this call wrote the object that the store now refuses to write.

        Where the store drops metadata, equal bytes are taken for ours: whatever is put only if
        absent holds something that no other writer has (an attempt's token, an event's time).
        """
        head = self._s3.head(full)
        if head is None:
            return False
        if (found := self._writer_in(head)) is not None:
            return found == writer
        return self._s3.with_body(full, lambda client: self._s3.sha256_stored(client, full)) == sha256

    def _writer_in(self, head: Mapping[str, Any]) -> str | None:
        """Returns who wrote an object; None if the store has dropped its metadata."""
        found = metadata_of(head).get("writer")
        if found is None:
            self._s3.note(Limit.METADATA)
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
            self._s3.read(full, sha256)
        except NotFoundError:
            raise CorruptError(f"{self._s3.place(full)}: reported as stored, but it is not there") from None
        except CorruptError:
            if self._is_replaced(self._s3.head(full), writer):
                return
            self._remove(full)
            raise

    def _verify_by_checksum(self, full: str, size: int, sha256: str, checksum: str, writer: str) -> None:
        head = self._s3.or_instead(
            Limit.CHECKSUMS,
            lambda: self._s3.head(full, ChecksumMode="ENABLED"),
            lambda: self._s3.head(full),
        )
        if head is None:
            raise CorruptError(f"{self._s3.place(full)}: reported as stored, but it is not there")
        if self._is_replaced(head, writer):
            return
        wrong = None
        stored = int(self._s3.needed(head, "ContentLength", full))
        if stored != size:
            wrong = f"{stored:,} bytes are stored instead of {size:,}"
        elif "ChecksumSHA256" in head:
            if head["ChecksumSHA256"] != checksum:
                wrong = f"the store computed {head['ChecksumSHA256']} instead of {checksum}"
        elif (found := self._s3.with_body(full, lambda client: self._s3.sha256_stored(client, full))) != sha256:
            wrong = f"it reads back with sha256 {found} instead of {sha256}"
        if wrong is not None:
            self._remove(full)
            raise CorruptError(f"{self._s3.place(full)}: {wrong}")

    def _remove(self, full: str) -> None:
        """Tries to remove a damaged object.

        It is worse than none, above all under a content address.
        """
        with suppress(StorageError):
            self._s3.run("delete", full, lambda client: client.delete_object(Bucket=self._s3.bucket, Key=full))


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
