"""Which extra of the package brings a library: the client alone installs none of them.

`pip install raytrain` is the client. Whoever catches a ModuleNotFoundError asks `missing_extra` for
the sentence that names the command.
"""

from raytrain_core.errors import UsageError

EXTRAS = {
    "train": (
        *("torch", "transformers", "ray", "peft", "safetensors", "tokenizers", "datasets", "huggingface_hub"),
        *("numpy", "pyarrow", "filelock", "regex", "evaluate", "rouge_score_rs", "sacrebleu", "tensorboardX"),
        *("tree_sitter", "tree_sitter_c_sharp", "tree_sitter_java", "tree_sitter_python"),
    ),
    "serve": ("starlette", "uvicorn"),
    "operator": ("kopf", "kubernetes", "prometheus_client"),
    "plots": ("matplotlib",),
    "pii": ("phonenumbers",),
    "benchmarks": ("lm_eval",),
    "optuna": ("optuna",),
    "ctranslate2": ("ctranslate2",),
    "notebook": ("pandas",),
    "gcs": ("google", "google_crc32c"),
    "azure": ("azure",),
    "mlflow": ("mlflow",),
    "wandb": ("wandb",),
}
"""The importable packages of each extra; `pyproject.toml` has their distributions and versions."""

_EXTRA_OF = {package: extra for extra, packages in EXTRAS.items() for package in packages}


class MissingExtraError(UsageError):
    """A library is not installed that an extra of this package brings."""


def missing_extra(error: ImportError) -> MissingExtraError | None:
    """Returns what to install if an extra brings the package that was not found; else None."""
    package = (error.name or "").partition(".")[0]
    extra = _EXTRA_OF.get(package)
    if extra is None or not isinstance(error, ModuleNotFoundError):
        return None
    return MissingExtraError(f"this needs the package {package}, which is not installed", hint=how_to_install(extra))


def how_to_install(extra: str) -> str:
    """The command that brings an extra."""
    return f"pip install 'raytrain[{extra}]'"
