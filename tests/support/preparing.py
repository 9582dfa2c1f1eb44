"""A preparing process to kill: `python preparing.py FOLDER STORE TOKENIZER WORKERS [GATED GATE]`.

Prepares FOLDER/rows into STORE (a URI, at the endpoint of the environment if it is in S3) with
parts of seven rows and prints the digest. With GATED and GATE the store is
`gated_store.GatedStore`.
"""

import os
import sys
from pathlib import Path
from typing import Any

from data_prep.config import Mixture, Task
from data_prep.prepare import PrepLimits, prepare
from data_prep.shards import task_sources, workers
from data_prep.text.tokenizer_folder import read_tokenizer
from raytrain_core.storage import LocalStore, Store, open_store
from raytrain_core.storage.scratch import sweep

ROWS_OF_A_UNIT = 7
TASK = {"name": "notes", "type": "summarization", "source": {"uri": "rows"}, "templatesPerExample": 2}


def prepare_rows(folder: Path, store: Store, tokenizer: Path, count: int = 1, **fields: Any) -> str:
    """Prepares with `count` processes, or in this one if 1; returns the shard set's digest."""
    task_sources.ROWS_OF_A_UNIT = ROWS_OF_A_UNIT
    workers._LOCAL_EXAMPLES = workers._LOCAL_BYTES = 0
    sweep()
    with workers.LocalProcesses(count) as processes:
        shard_set = prepare(
            [Task.model_validate(TASK | fields)],
            Mixture(),
            store=store,
            tokenizer=read_tokenizer(tokenizer),
            limits=PrepLimits(64, 16),
            base_folder=folder,
            workers=processes if count > 1 else None,
        )
    return shard_set.digest


def prepare_at(environment: dict[str, str], folder: Path, uri: str, tokenizer: Path, fields: dict[str, Any]) -> None:
    """Entry point of a `multiprocessing` process."""
    os.environ.update(environment)
    prepare_rows(folder, open_store(uri), tokenizer, **fields)


def main() -> None:
    folder, uri, tokenizer, count, *gated = sys.argv[1:]
    store = open_store(uri)
    if gated:
        from tests.support.gated_store import GatedStore

        assert isinstance(store, LocalStore)
        store = GatedStore(store.root, gated[0], Path(gated[1]))
    print(prepare_rows(Path(folder), store, Path(tokenizer), int(count)))


if __name__ == "__main__":
    main()
