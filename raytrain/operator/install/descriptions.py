"""Descriptions of fields in the CRD, where a cluster differs from one machine.

`kubectl explain` shows them. A pod has no job file next to it, and no folders but mounted volumes.
"""

IN_A_CLUSTER = {
    ("spec", "model"): (
        "The model to start from: a Hugging Face id, if needed with @ and a branch, tag or commit; a prefix in a "
        "bucket (s3://, gs://, az://); run://NAME (the model of an earlier run); or a folder of a volume that "
        "cluster.podTemplate mounts. A run goes on with the commit that it started with."
    ),
    ("spec", "storage"): (
        "Where shards and runs are stored. By default runs.storage of the operator's settings. A run is "
        "stored under its namespace: URI/NAMESPACE."
    ),
    ("spec", "storage", "uri"): (
        "Bucket prefix for shards and runs, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or "
        "abfs://container@account.dfs.core.windows.net/prefix, or file:///... in a volume that "
        "cluster.podTemplate mounts."
    ),
    ("spec", "probes"): (
        "Standard benchmarks that are scored before and after training, to show what the model forgets. For probes "
        "with rows of your own see tasks[].probe."
    ),
    ("spec", "probes", "[]", "rows"): (
        "Where the rows are: a prefix in a bucket (s3://, gs://, az://) or a folder in a volume that "
        "cluster.podTemplate mounts, with files named "
        "after their split (one folder for each configuration if there are several, as on the hub), or "
        "hf://name[:config][@revision]. By default the data set that the benchmark names on the Hugging Face hub "
        "(HF_ENDPOINT names a mirror)."
    ),
    ("spec", "tasks", "[]", "source", "uri"): (
        "Rows as JSONL, CSV, TSV (plain, .gz, .zst, .bz2, .xz or .lz4) or Parquet: s3://..., gs://... or "
        "az://... (an object, a prefix or a glob; read at storage.endpoint if the storage is in the same cloud), "
        "hf://name[:config][@revision] on the Hugging Face hub, or an absolute path in a volume that "
        "cluster.podTemplate mounts. Below a prefix and on the hub, the split is taken from the words train, "
        "validation (or dev, valid) and test in the names."
    ),
    ("spec", "training", "trackers"): (
        "Experiment trackers that receive each step's metrics. They are configured by their own environment "
        "variables, e.g. from cluster.secrets; tensorboard needs a storage in a mounted volume. A tracker "
        "that fails never stops training."
    ),
}
"""By path from the root of the object; `[]` stands for the items of a list."""
