"""The verbs. Each command reads its arguments, calls one function elsewhere, and prints what came back.

Heavy modules are imported inside the commands: `raytrain --help` answers at once.
"""

from pathlib import Path
from typing import Annotated

import typer

from raytrain import __version__
from raytrain.cli import cluster_commands as in_cluster
from raytrain.cli import completion, render
from raytrain.cli.data_commands import data
from raytrain.cli.options import JobFile, Output, Run, StorageFlag, open_run
from raytrain.cli.output import Format, emit, say, tell

app = typer.Typer(
    name="raytrain",
    help="Multitask fine-tuning of FLAN-T5 from one job: prepare, score before, train, score after, report.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data)
app.add_typer(in_cluster.verbs)


def _version(wanted: bool) -> None:
    if wanted:
        say(__version__)
        raise typer.Exit


@app.callback(epilog="Exit codes: 0 ok, 1 bug, 2 usage, 3 data, 4 storage, 5 cluster, 6 training, 130 interrupted.")
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere in the command.")
    ] = False,
) -> None:
    """Options of every command; `--debug` is taken out of the arguments before typer sees them."""


@app.command()
def init(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Where to write it.")] = Path("job.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a commented starter job."""
    from raytrain.config.starter import write_starter

    write_starter(path, force=force)
    tell(f"wrote {path}; next: fill in your tasks, then `raytrain check {path}`")


@app.command()
def check(job_file: JobFile, storage: StorageFlag = None, output: Output = Format.TEXT) -> None:
    """Is a job right, and what would it do?

    Nothing is written or started. What cannot be known without the network is called unknown.
    """
    from raytrain import check as checking
    from raytrain.config.load import load_job

    loaded = load_job(job_file)
    report = checking.check(loaded.job, storage=storage, base_folder=loaded.base_folder)
    emit(report, render.check(report), output)


@app.command()
def explain(
    path: Annotated[
        str | None,
        typer.Argument(
            metavar="FIELD",
            help="Dotted path, e.g. training.optimizer; without it all fields.",
            autocompletion=completion.fields,
            show_default=False,
        ),
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of the job.")] = False,
    output: Output = Format.TEXT,
) -> None:
    """What a field of the job means, takes and defaults to."""
    from raytrain.config import explain as explaining

    if schema:
        from raytrain.config.schema import schema_text

        say(schema_text().rstrip())
    elif path is None:
        emit([explaining.describe(f) for f in explaining.all_fields()], explaining.tree(), output)
    else:
        field = explaining.find_field(path)
        emit(explaining.describe(field), explaining.in_words(field), output)


@app.command()
def run(
    job_file: JobFile,
    storage: StorageFlag = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over, whatever an earlier attempt left.")] = False,
    output: Output = Format.TEXT,
) -> None:
    """Do the job here.

    The same command again resumes it, or says that it is done. Ctrl-C leaves it resumable, twice
    stops it now.
    """
    from raytrain.config.load import load_job
    from raytrain.pipeline import run as pipeline
    from raytrain.telemetry.console import Console
    from raytrain.telemetry.kubernetes_status import report_result

    with report_result() as ending:
        loaded = load_job(job_file)
        with Console() as console:
            outcome = pipeline.run(
                loaded.job, storage=storage, base_folder=loaded.base_folder, fresh=fresh, console=console
            )
        ending.report = outcome.report_uri
    emit(outcome, render.outcome(outcome), output)


@app.command("render")
def render_ray_job(
    job_file: JobFile,
    image: Annotated[
        str | None,
        typer.Option("--image", metavar="NAME", help="Image of the pods; else the job's.", show_default=False),
    ] = None,
    namespace: Annotated[
        str | None, typer.Option("-n", "--namespace", metavar="NAME", help="Namespace.", show_default=False)
    ] = None,
) -> None:
    """Print the RayJob of a job, for clusters without our operator.

    `raytrain render job.yaml | kubectl apply -f -` starts it; retries and status are the operator's
    and left out.
    """
    from raytrain.config.load import load_job
    from raytrain.operator.standalone import render_standalone

    say(render_standalone(load_job(job_file).job, image=image, namespace=namespace).rstrip())


@app.command()
def predict(
    run: Run,
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT...", help="What to ask; without it standard input is one text.", show_default=False
        ),
    ] = None,
    *,
    task: Annotated[
        str,
        typer.Option(
            "--task", metavar="NAME", help="The task to ask.", autocompletion=completion.tasks, show_default=False
        ),
    ],
    before: Annotated[bool, typer.Option("--before", help="Ask the model as it was before.")] = False,
    compare: Annotated[bool, typer.Option("--compare", help="Ask both.")] = False,
    template: Annotated[
        int | None, typer.Option("--template", min=0, help="Wording of the instruction, by number.", show_default=False)
    ] = None,
    lines: Annotated[bool, typer.Option("--lines", help="Each line of standard input is a text.")] = False,
    storage: StorageFlag = None,
    output: Output = Format.TEXT,
) -> None:
    """Ask the tuned model, the one before, or both."""
    from raytrain.serving.predict import predict_pairs, read_texts

    store, layout = open_run(run, storage)
    pairs = predict_pairs(
        read_texts(texts, lines=lines),
        store=store,
        layout=layout,
        task=task,
        before=before,
        compare=compare,
        template=template,
    )
    emit(pairs, render.predictions(pairs), output)


@app.command()
def evaluate(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODEL_OR_RUN",
            help="A model folder, s3:// or hub id; or a run (name or URI), for the model that it left.",
            autocompletion=completion.runs,
            show_default=False,
        ),
    ],
    *,
    job_file: Annotated[Path, typer.Option("--job", metavar="FILE", help="Whose tasks and rows.", show_default=False)],
    task: Annotated[
        list[str] | None,
        typer.Option("--task", metavar="NAME", help="This task only; may be given again.", show_default=False),
    ] = None,
    validation: Annotated[
        bool, typer.Option("--validation", help="On validation rows, which leaves the test rows untouched.")
    ] = False,
    storage: StorageFlag = None,
    output: Output = Format.TEXT,
) -> None:
    """Score any model on the tasks of a job.

    Base models and other people's fine-tunes too. Scores are kept in the storage: the same command
    again reads them.
    """
    from raytrain.config.load import load_job
    from raytrain.evaluation.evaluate_model import evaluate_model
    from raytrain.telemetry.console import Console

    loaded = load_job(job_file)
    with Console() as console:
        console.phase("scoring")
        found = evaluate_model(
            target,
            loaded.job,
            base_folder=loaded.base_folder,
            storage=storage,
            tasks=task or (),
            split="validation" if validation else "test",
            on_progress=console.update,
        )
    emit(found.as_json(), render.evaluated(found), output)


@app.command()
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN_A RUN_B...", help="Two runs or more.", autocompletion=completion.runs, show_default=False
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Write comparison.html, .md and .json.", show_default=False),
    ] = None,
    storage: StorageFlag = None,
    output: Output = Format.TEXT,
) -> None:
    """Hold runs against each other.

    Scores, differences from the first run with their intervals, curves, the rows on which they
    differ most.
    """
    from raytrain.report.compare_runs import compare as comparing

    found = comparing([open_run(run, storage) for run in runs], out=out)
    say(found.json.rstrip() if output is Format.JSON else found.markdown.rstrip())
    for path in found.files:
        tell(f"wrote {path}")


@app.command()
def leaderboard(storage: StorageFlag = None, output: Output = Format.TEXT) -> None:
    """All runs and scored models of a storage, the best first."""
    from raytrain.config.locations import storage_location
    from raytrain.report.leaderboard import leaderboard as board
    from raytrain_core.storage import open_store

    found = board(open_store(storage_location(storage)))
    emit(found, render.leaderboard(found), output)


@app.command()
def serve(
    run: Run,
    host: Annotated[
        str, typer.Option("--host", help="Where to listen; 127.0.0.1 is this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8080,
    storage: StorageFlag = None,
) -> None:
    """Try a run's models in a browser.

    Every task in every wording, before and after side by side; the same as JSON at /api/generate.
    Ctrl-C ends it.
    """
    from raytrain.serving import web
    from raytrain.serving.models import RunModels
    from raytrain.serving.playground import Playground

    store, layout = open_run(run, storage)
    playground = Playground(RunModels(store, layout))
    tell("loading the models")
    playground.load(playground.available_models())
    web.serve(playground, run=layout.name, host=host, port=port, on_ready=lambda at: tell(f"listening on {at}"))


@app.command()
def report(
    run: Run,
    namespace: in_cluster.Namespace = None,
    storage: StorageFlag = None,
    save: Annotated[
        Path | None,
        typer.Option("--save", metavar="FILE", help="Write the page with pictures there too.", show_default=False),
    ] = None,
    output: Output = Format.TEXT,
) -> None:
    """Write the report of a run anew, and print it.

    It is made from what the run left in storage; the path of the page with pictures is said on
    standard error.
    """
    from raytrain import report as reporting
    from raytrain_core.errors import UsageError

    store, layout = in_cluster.open_run(run, storage, namespace)
    where = str(reporting.write(store, layout))
    if save is not None:
        try:
            save.write_bytes(store.get(f"{layout.report}/index.html"))
        except OSError as error:
            raise UsageError(f"{save} cannot be written: {error.strerror}") from None
        where = str(save)
    if output is Format.JSON:
        say(store.get(f"{layout.report}/report.json").decode())
    else:
        say(store.get(f"{layout.report}/report.md").decode().rstrip())
        tell(f"report: {where}")


@app.command()
def status(
    run: Run,
    namespace: in_cluster.Namespace = None,
    storage: StorageFlag = None,
    why: Annotated[bool, typer.Option("--why", help="What bounds a step: where the latest steps spent time.")] = False,
    output: Output = Format.TEXT,
) -> None:
    """How a run is doing, and what to do next; with -n, what the cluster says of it."""
    if namespace is not None and not why:
        from raytrain.cluster import jobs
        from raytrain.kubernetes.client import KubernetesApi

        job = jobs.of_object(jobs.get(KubernetesApi.connect(), namespace, run))
        emit(job, render.job(job), output)
        return
    from raytrain.runs import status as looking

    store, layout = in_cluster.open_run(run, storage, namespace)
    if why:
        bounds = looking.why(store, layout)
        emit(bounds.as_json(), render.bounds(bounds), output)
        return
    found = looking.gather(store, layout.name)
    emit(found.as_json(), render.status(found), output)


@app.command()
def gc(
    storage: StorageFlag = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete it; without this it is only shown.")] = False,
    sets: Annotated[
        bool, typer.Option("--sets", help="Prepared data that no run was begun with is garbage, too.")
    ] = False,
    grace: Annotated[
        float,
        typer.Option("--grace", min=0, metavar="HOURS", help="Leave alone what is younger: it may be in the making."),
    ] = 24.0,
    output: Output = Format.TEXT,
) -> None:
    """Show what lies in a storage and serves nobody, and with --yes delete it.

    Parts that no prepared task names, tasks that no shard set names, half-written checkpoints, and
    those that a finished run does not keep.
    """
    from raytrain.config.locations import storage_location
    from raytrain.runs import gc as garbage
    from raytrain_core.storage import open_store

    store = open_store(storage_location(storage))
    found = garbage.collect(store, grace=grace * 3600, unused_sets=sets)
    if yes:
        found = garbage.delete(store, found, grace=grace * 3600, unused_sets=sets)
    value = {"storage": store.uri, "deleted": yes, "garbage": found.garbage, "preparing": found.preparing}
    emit(value, render.garbage(store.uri, found, deleted=yes), output)
