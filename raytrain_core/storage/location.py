"""Where an object store is: URI, endpoint and region in one value, as a job file writes it."""

import os
from pathlib import Path

from pydantic import Field

from raytrain_core.config.base import SpecModel
from raytrain_core.errors import UsageError

VARIABLE = "RAYTRAIN_STORAGE"
DEFAULT = "./raytrain-storage"


class StorageLocation(SpecModel):
    """Where everything durable is stored.

    Credentials come from the environment, never from the job.
    """

    uri: str = Field(
        description=("Folder or bucket prefix for shards and runs: a path, file:///... or s3://bucket/prefix."),
        examples=["s3://my-bucket/raytrain", "./raytrain-storage"],
    )
    endpoint: str | None = Field(
        default=None,
        description=(
            "Address of an S3-compatible server; by default AWS_ENDPOINT_URL, else AWS itself. Sources and models "
            "in s3:// are read there too if the storage is in S3."
        ),
    )
    region: str | None = Field(
        default=None,
        description=("Region of the bucket, if the store requires one; also used for sources and models in s3://."),
    )


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
        return StorageLocation(uri=flag)
    if in_job is None:
        return StorageLocation(uri=os.environ.get(VARIABLE) or DEFAULT)
    if base_folder is None or "://" in in_job.uri:
        return in_job
    return in_job.model_copy(update={"uri": str(base_folder / Path(in_job.uri).expanduser())})
