"""A wheel holds the workflow too, which stays at the top of a checkout."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("workflow", "config", "envs")


class WithWorkflow(build_py):
    """Copies the workflow's folders into the package; an editable install reads the checkout's."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        shipped = Path(self.build_lib) / "mstkd/shipped"
        shutil.rmtree(shipped, ignore_errors=True)  # of an earlier build
        for folder in SHIPPED:
            shutil.copytree(folder, shipped / folder)


setup(cmdclass={"build_py": WithWorkflow})
