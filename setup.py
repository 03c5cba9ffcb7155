"""Copies the ledger beside the code when a wheel is built; everything else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithLedger(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            shutil.copy2("registry.toml", Path(self.build_lib) / "zoo" / "registry.toml")


setup(cmdclass={"build_py": BuildWithLedger})
