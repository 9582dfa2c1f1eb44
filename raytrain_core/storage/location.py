"""Where an object store is: URI, endpoint and region in one value, as a job file writes it."""

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field

from raytrain_core.config.base import SpecModel, checked_by
from raytrain_core.errors import UsageError
from raytrain_core.storage.uri import check_endpoint, parse_uri

VARIABLE = "RAYTRAIN_STORAGE"
DEFAULT = "./raytrain-storage"


class StorageLocation(SpecModel):
    """Where everything durable is stored.

    Credentials come from the environment, never from the job.
    """

    uri: Annotated[str, checked_by(parse_uri)] = Field(
        description=(
            "Folder or bucket prefix for shards and runs: a path, file:///..., s3://bucket/prefix, "
            "gs://bucket/prefix, az://container/prefix or abfs://container@account.dfs.core.windows.net/prefix."
        ),
        examples=["s3://my-bucket/raytrain", "gs://my-bucket/raytrain", "./raytrain-storage"],
    )
    endpoint: Annotated[str, checked_by(check_endpoint)] | None = Field(
        default=None,
        description=(
            "Address of the server, e.g. of one that speaks S3; by default AWS_ENDPOINT_URL (s3://), "
            "STORAGE_EMULATOR_HOST (gs://) or AZURE_STORAGE_ENDPOINT (az://), else the cloud itself. Sources and "
            "models of the same cloud are read there too."
        ),
    )
    region: str | None = Field(
        default=None,
        description=("Region of the bucket, if the store requires one; also used for sources and models in s3://."),
    )


def location_of(uri: str, what: str = "the storage URI") -> StorageLocation:
    """Returns the location of a URI alone; a UsageError, if it is not allowed, calls it `what`."""
    parse_uri(uri, what)
    return StorageLocation(uri=uri)


def choose_location(
    flag: str | None, in_job: StorageLocation | None = None, *, base_folder: Path | None = None
) -> StorageLocation:
    """Returns the storage to use: flag, else job, else RAYTRAIN_STORAGE, else ./raytrain-storage.

    A relative path in the job is relative to `base_folder`; any other, to the working folder. A
    flag replaces the job's storage completely, endpoint and region included. Raises UsageError for
    an empty flag.
    """
    if flag is not None:
        if not flag.strip():
            raise UsageError("--storage is empty", hint="give a folder or a URI such as s3://bucket/prefix")
        return location_of(flag, "--storage")
    if in_job is None:
        return location_of(os.environ.get(VARIABLE) or DEFAULT, VARIABLE)
    if base_folder is None or "://" in in_job.uri:
        return in_job
    return in_job.model_copy(update={"uri": str(base_folder / Path(in_job.uri).expanduser())})
