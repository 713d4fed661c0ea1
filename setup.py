"""Builds the extension `streamgru._kernel`; all metadata is in pyproject.toml.

One wheel serves every CPython from 3.11 on (the limited API, abi3). It ships the C sources too, for `streamgru embed`.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

C_SOURCES = [path for path in Path("c_src").rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"}]


class BuildWithSources(build_py):
    def run(self) -> None:
        super().run()
        for source in C_SOURCES if not self.editable_mode else ():
            target = Path(self.build_lib, "streamgru", source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


setup(
    cmdclass={"build_py": BuildWithSources},
    cffi_modules=["c_src/build_ffi.py:ffi"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
