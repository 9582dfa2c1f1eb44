"""Commands that use the models of a run: predict, evaluate, serve, export."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from raytrain.cli import completion, render, render_export
from raytrain.cli.options import Output, Run, StorageFlag, open_run
from raytrain.cli.output import Format, print_note, print_output

model_commands = typer.Typer()


class ExportFormat(StrEnum):
    """Values of `export --format`."""

    TRANSFORMERS = "transformers"
    ADAPTER = "adapter"
    CTRANSLATE2 = "ctranslate2"
    ONNX = "onnx"


class ServePrecision(StrEnum):
    """Values of `serve --precision`."""

    FP32 = "fp32"
    BF16 = "bf16"


class Quantization(StrEnum):
    """Values of `export --quantization`."""

    INT8 = "int8"
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


@model_commands.command()
def predict(
    run: Run,
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXT...", help="Input texts. Default: standard input as one text.", show_default=False),
    ] = None,
    *,
    task: Annotated[
        str,
        typer.Option(
            "--task",
            metavar="NAME",
            help="The task whose prompt to use.",
            autocompletion=completion.tasks,
            show_default=False,
        ),
    ],
    before: Annotated[bool, typer.Option("--before", help="Use the model before training.")] = False,
    compare: Annotated[bool, typer.Option("--compare", help="Use both models.")] = False,
    template: Annotated[
        int | None,
        typer.Option("--template", min=0, help="Number of the instruction template.", show_default=False),
    ] = None,
    lines: Annotated[bool, typer.Option("--lines", help="Treat each line of standard input as a text.")] = False,
    refuse_long: Annotated[
        bool, typer.Option("--refuse-long", help="Fail for a text that is too long, instead of leaving out its end.")
    ] = False,
    storage: StorageFlag = None,
    output: Output = Format.TEXT,
) -> None:
    """Generate answers with the tuned model, the base model, or both."""
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
        refuse_long=refuse_long,
    )
    for number, pair in enumerate(pairs, 1):
        if pair.notice:
            print_note(f"text {number}: {pair.notice}" if len(pairs) > 1 else pair.notice)
    print_output(pairs, render.predictions(pairs), output)


@model_commands.command()
def evaluate(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODEL_OR_RUN",
            help="A model (folder, s3:// URI or hub id), or a run whose tuned model to score.",
            autocompletion=completion.runs,
            show_default=False,
        ),
    ],
    *,
    job_file: Annotated[
        Path, typer.Option("--job", metavar="FILE", help="The job file with the tasks to score.", show_default=False)
    ],
    task: Annotated[
        list[str] | None,
        typer.Option("--task", metavar="NAME", help="Score only this task; may be repeated.", show_default=False),
    ] = None,
    validation: Annotated[
        bool, typer.Option("--validation", help="Score validation rows, to keep the test rows unseen.")
    ] = False,
    storage: StorageFlag = None,
    output: Output = Format.TEXT,
) -> None:
    """Score any model on the tasks of a job.

    It need not come from a run. Scores are kept in storage: the same command reads them from there
    the next time.
    """
    from raytrain.config.load import load_job
    from raytrain.evaluation.evaluate_model import evaluate_model
    from raytrain.telemetry.console import Console

    loaded = load_job(job_file)
    with Console() as console:
        console.phase("scoring")
        scores = evaluate_model(
            target,
            loaded.job,
            base_folder=loaded.base_folder,
            storage=storage,
            tasks=task or (),
            split="validation" if validation else "test",
            on_progress=console.update,
            on_note=console.line,
        )
    print_output(scores.as_json(), render.evaluated(scores), output)


@model_commands.command()
def serve(
    run: Run,
    *,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 127.0.0.1 accepts only this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 chooses a free one.")] = 8080,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help="File with the token that requests must show. Default: RAYTRAIN_SERVE_TOKEN.",
            show_default="none",
        ),
    ] = None,
    max_queued: Annotated[
        int, typer.Option("--max-queued", min=1, help="Most prompts waiting or being answered; beyond it: 429.")
    ] = 256,
    precision: Annotated[
        ServePrecision,
        typer.Option("--precision", help="bf16 is faster where the processor multiplies it; some answers differ."),
    ] = ServePrecision.FP32,
    storage: StorageFlag = None,
) -> None:
    """Serve the models of a run: a page to try them, and JSON endpoints.

    The page shows every task and template, with the answers before and after training. Programs
    use /v1/completions, /generate and /generate/batch. Ctrl-C or SIGTERM answers what was accepted
    and ends.
    """
    from raytrain.training.threads import ENVIRONMENT

    os.environ.setdefault("GOMP_SPINCOUNT", ENVIRONMENT["GOMP_SPINCOUNT"])  # libgomp reads it when torch is imported

    from raytrain.serving.http import LOCAL_HOSTS
    from raytrain.serving.local import serve_run
    from raytrain.serving.service import ServiceLimits
    from raytrain.serving.token import read_token

    store, layout = open_run(run, storage)
    token = read_token(token_file)
    if token is None and host not in LOCAL_HOSTS:
        print_note("anyone who reaches this address can use the models: there is no token (--token-file)")
    print_note("loading the models")
    serve_run(
        store,
        layout,
        host=host,
        port=port,
        limits=ServiceLimits(max_queued=max_queued),
        token=token,
        precision="bf16" if precision is ServePrecision.BF16 else "fp32",
        on_note=print_note,
        on_ready=lambda url: print_note(f"listening on {url}"),
    )


@model_commands.command()
def export(
    run: Run,
    *,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="PLACE",
            help="A folder, s3://, gs:// or az://bucket/prefix, or hf://org/name (a private repository) on a hub.",
            show_default=False,
        ),
    ],
    form: Annotated[
        ExportFormat,
        typer.Option(
            "--format",
            help="adapter: of a LoRA run, for peft. ctranslate2: for fast answers on CPUs. onnx: says why not.",
        ),
    ] = ExportFormat.TRANSFORMERS,
    quantization: Annotated[
        Quantization | None,
        typer.Option("--quantization", help="How ctranslate2 stores the weights.", show_default="int8"),
    ] = None,
    revision: Annotated[
        str | None,
        typer.Option("--revision", metavar="BRANCH", help="Branch of the repository.", show_default="main"),
    ] = None,
    tag: Annotated[
        str | None, typer.Option("--tag", metavar="NAME", help="Tag the commit.", show_default=False)
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Let the repository be public.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace other content of the same names, or move the tag.")
    ] = False,
    storage: StorageFlag = None,
    output: Output = Format.TEXT,
) -> None:
    """Take the model of a run out, with a model card.

    Every file is verified. The same command continues an interrupted export, and verifies a
    finished one.
    """
    from raytrain.export.run_export import export_run

    store, layout = open_run(run, storage)
    placed = export_run(
        store,
        layout,
        to=to,
        form=form.value,
        quantization=quantization and quantization.value,
        revision=revision,
        tag=tag,
        public=public,
        force=force,
    )
    print_output(placed, render_export.exported(placed), output)
