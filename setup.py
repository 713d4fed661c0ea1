"""Builds the extension `streamgru._kernel`; all metadata is in pyproject.toml.

One wheel serves every CPython from 3.10 on (the limited API, abi3).
"""

from setuptools import setup

setup(
    cffi_modules=["c_src/build_ffi.py:ffi"],
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
