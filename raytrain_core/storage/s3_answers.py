"""Reads the answers of stores that differ from AWS S3, and what such a store cannot do."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from raytrain_core.storage.s3_errors import not_s3


class Limit(StrEnum):
    """What a store does not do, and what is done instead."""

    CHECKSUMS = "it takes no SHA-256 checksums: what is written is read back instead"
    METADATA = "it keeps no metadata of objects: what is written is read back instead"
    LIST_V2 = "it does not know ListObjectsV2: ListObjects is used"
    MULTI_DELETE = "it does not know DeleteObjects: objects are deleted one by one"


def metadata_of(answer: Mapping[str, Any]) -> dict[str, str]:
    """Returns an object's metadata by lower-case names; some stores capitalise them."""
    return {name.lower(): value for name, value in (answer.get("Metadata") or {}).items()}


def needed(answer: Mapping[str, Any], name: str, place: str, endpoint: str | None) -> Any:
    """Returns a field that every S3 server answers with; StorageError if it is missing."""
    if answer.get(name) is None:
        came = answer.get("ResponseMetadata", {})
        kind = came.get("HTTPHeaders", {}).get("content-type", "no content type")
        raise not_s3(place, endpoint or "AWS", f"it has no {name} ({came.get('HTTPStatusCode', '?')}, {kind})")
    return answer[name]


def refuse_web_page(answer: Mapping[str, Any], place: str, endpoint: str | None) -> None:
    """Raises StorageError for HTML, which botocore reads as an empty list if it is well-formed."""
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    if headers.get("content-type", "").startswith("text/html"):
        raise not_s3(place, endpoint or "AWS", "it is a web page")


def is_web_page(data: bytes) -> bool:
    """Whether a body is HTML, which a login page or a proxy sends with status 200."""
    start = data[:200].lstrip().lower()
    return start.startswith((b"<!doctype html", b"<html"))
