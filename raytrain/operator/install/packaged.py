"""What `raytrain install` prints and writes: the operator's objects and the Helm charts."""

import shutil
from pathlib import Path

from raytrain.operator.install.crd import crd
from raytrain.operator.install.manifests import ROOT, everything
from raytrain.operator.render.yaml_output import to_yaml
from raytrain_core.errors import UsageError

_PACKAGED = Path(__file__).parent / "charts"


def definition() -> str:
    """The CustomResourceDefinition as YAML."""
    return to_yaml(crd())


def objects() -> str:
    """Namespace, definition, permissions and operator as YAML, with the chart's defaults."""
    return to_yaml(*everything())


def write_charts(folder: Path) -> list[Path]:
    """Copies both charts into `folder`; UsageError if one is there or it cannot be written."""
    source = _PACKAGED if _PACKAGED.is_dir() else ROOT / "helm"
    written = []
    for chart in sorted(path for path in source.iterdir() if (path / "Chart.yaml").is_file()):
        try:
            written.append(Path(shutil.copytree(chart, folder / chart.name)))
        except FileExistsError:
            raise UsageError(f"{folder / chart.name} already exists", hint="give another folder") from None
        except (OSError, shutil.Error) as error:
            raise UsageError(f"{folder} cannot be written: {error}") from None
    return written
