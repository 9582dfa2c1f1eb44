"""`python -m data_prep prepare job.yaml`: prepares the data of a job without training."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ConfigDict, Field

from data_prep.config import Mixture, Task
from data_prep.prepare import PrepLimits, prepare
from data_prep.shards.manifest import PreparedTask, ShardSet
from data_prep.shards.progress import ProgressLine
from data_prep.shards.workers import local_workers
from data_prep.tally import Tally
from data_prep.text.tokenizer_folder import read_tokenizer
from raytrain_core.config.base import SpecModel
from raytrain_core.config.loader import load_config
from raytrain_core.errors import ExitCode, UsageError, UserError
from raytrain_core.extras import missing_extra
from raytrain_core.storage import open_store
from raytrain_core.storage.location import StorageLocation, choose_location
from raytrain_core.storage.scratch import sweep


class _Lenient(SpecModel):
    """A part of the job in which preparation ignores fields of training."""

    model_config = ConfigDict(extra="ignore")


class _Training(_Lenient):
    max_input_tokens: int = Field(default=512, ge=8)
    max_target_tokens: int = Field(default=128, ge=2)


class _Preparation(_Lenient):
    cpus: float = Field(default=2, gt=0)


class _Resources(_Lenient):
    preparation: _Preparation = Field(default_factory=_Preparation)


class _Spec(_Lenient):
    model: str = Field(min_length=1)
    storage: StorageLocation | None = None
    tasks: list[Task] = Field(min_length=1)
    mixture: Mixture = Field(default_factory=Mixture)
    training: _Training = Field(default_factory=_Training)
    resources: _Resources = Field(default_factory=_Resources)


class _JobFile(_Lenient):
    spec: _Spec


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command, prints errors, and returns the exit code."""
    options = _parser().parse_args(arguments)
    sweep()
    with ProgressLine(sys.stderr) as progress:
        try:
            shard_set = _prepare(options, progress)
        except UserError as error:
            progress.close()
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
        except ModuleNotFoundError as error:
            if (missing := missing_extra(error)) is None:
                raise
            progress.close()
            print(f"error: {missing}", file=sys.stderr)
            return missing.exit_code
        except KeyboardInterrupt:
            progress.close()
            print("interrupted; finished work is kept, and the same command continues", file=sys.stderr)
            return ExitCode.INTERRUPTED
    if not progress.used:
        print("nothing to do: everything is already prepared", file=sys.stderr)
    print(table(shard_set))
    return ExitCode.OK


def table(shard_set: ShardSet) -> str:
    """Returns a summary: a line for each task and split, and remarks."""
    head = (
        "task",
        "split",
        "rows",
        "x",
        "source p50/p95/max",
        "cut",
        "target p50/p95/max",
        "cut",
        "unknown",
        "altered",
    )
    lines = [head]
    for task in shard_set.tasks:
        for split, prepared in task.splits.items():
            s = prepared.statistics
            lengths = (
                "/".join(str(s[side][q]) for q in ("p50", "p95", "max")) for side in ("source_tokens", "target_tokens")
            )
            source, target = lengths
            lines.append(
                (
                    task.name,
                    split,
                    f"{prepared.examples:,}",
                    str(prepared.variants),
                    source,
                    f"{s['truncated_sources']:.1%}",
                    target,
                    f"{s['truncated_targets']:.1%}",
                    f"{s['unknown_tokens']:.2%}",
                    f"{s['altered_inputs']:.1%}",
                )
            )
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*text, "", *_remarks(shard_set), f"shard set {shard_set.digest}"])


def _remarks(shard_set: ShardSet) -> Iterator[str]:
    for task in shard_set.tasks:
        yield from _task_remarks(task)
    for leak in shard_set.leakage:
        rows = f"{leak['split']} rows also in the training data of {leak['trained_in']}"
        yield f"{leak['task']}: {rows}: {leak['rows']:,}"
    if shard_set.rates:
        yield "mixture: " + ", ".join(f"{name} {rate:.1%}" for name, rate in shard_set.rates.items())


def _task_remarks(task: PreparedTask) -> Iterator[str]:
    tally = Tally.from_json(task.tally)
    yield from (f"{task.name}: {line}" for line in [*tally.lines(), tally.warning()] if line)
    for split, prepared in task.splits.items():
        if count := prepared.statistics["duplicates"]:
            yield f"{task.name}: {split} rows with the input of another row: {count:,}"
    for where, count in task.leakage.items():
        if count:
            held, _, seen = where.partition(" in ")
            yield f"{task.name}: {held} rows also in {seen}: {count:,}"


def _prepare(options: argparse.Namespace, progress: ProgressLine) -> ShardSet:
    path = Path(options.job_file)
    spec = load_config(path, _JobFile).spec
    base_folder = path.resolve().parent
    folder = Path(options.tokenizer) if options.tokenizer else base_folder / Path(spec.model).expanduser()
    if not folder.is_dir():
        raise UsageError(
            f"model {spec.model}: not a local folder, so there is no tokenizer.json to prepare with",
            hint="Name the folder of its tokenizer with --tokenizer; `raytrain run` downloads models by itself.",
        )
    storage = choose_location(options.storage, spec.storage, base_folder=base_folder)
    with local_workers(options.cpus or spec.resources.preparation.cpus) as workers:
        return prepare(
            spec.tasks,
            spec.mixture,
            store=open_store(storage),
            tokenizer=read_tokenizer(folder),
            limits=PrepLimits(spec.training.max_input_tokens, spec.training.max_target_tokens),
            base_folder=base_folder,
            on_progress=progress.show,
            verify=options.verify,
            workers=workers,
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m data_prep", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("prepare", help="prepare the shards of a job")
    command.add_argument("job_file", help="the job file, e.g. job.yaml")
    command.add_argument("--storage", metavar="URI", help="where shards are stored, instead of the job's storage")
    command.add_argument("--tokenizer", metavar="FOLDER", help="folder with tokenizer.json, instead of the model's")
    command.add_argument(
        "--cpus", type=float, help="maximum number of processes, instead of resources.preparation.cpus"
    )
    command.add_argument(
        "--verify", action="store_true", help="read sources and parts again and replace what does not match"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
