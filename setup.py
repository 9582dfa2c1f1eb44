"""Puts the Helm charts into the wheel: they lie outside the packages, where people look for them.

Everything else is in pyproject.toml.
"""

from pathlib import Path
from typing import Any

from setuptools import setup
from setuptools.command.build_py import build_py

CHARTS = "helm"
TARGET = "raytrain/operator/install/charts"


class BuildWithCharts(build_py):
    """Copies `helm/` into the package that installs the operator."""

    def run(self) -> None:
        """Builds the packages, then adds the charts."""
        super().run()
        if not self.editable_mode:
            for source, target in self._charts():
                self.mkpath(str(Path(target).parent))
                self.copy_file(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Lists what a build leaves, charts included."""
        charts = [] if self.editable_mode else [target for _, target in self._charts()]
        return [*super().get_outputs(include_bytecode), *charts]

    def _charts(self) -> list[tuple[str, str]]:
        files = sorted(path for path in Path(CHARTS).rglob("*") if path.is_file())
        root = Path(self.build_lib, TARGET)
        return [(str(path), str(root / path.relative_to(CHARTS))) for path in files]


commands: dict[str, Any] = {"build_py": BuildWithCharts}
setup(cmdclass=commands)
