"""What a figure depends on: versions, the CPU and its instruction set.

No package is imported for its version; that is read from the package's metadata.
"""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import streamgru
from streamgru._isa import isa

PACKAGES = ("numpy", "onnx", "onnxruntime", "torch", "onnxscript")


def environment() -> dict[str, str]:
    """By name: streamgru, isa, cpu, system, python, and each of PACKAGES with its version or "not installed"."""
    return {
        "streamgru": streamgru.__version__,
        "isa": isa(),
        "cpu": cpu_name(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
    }


def cpu_name() -> str:
    """The CPU's name as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        return platform.processor() or platform.machine()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
