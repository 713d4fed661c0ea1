"""The documents tell the truth: links lead somewhere, and the README's code runs."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def blocks(language, document="README.md"):
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(document):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text())
    missing = [link for link in links if "://" not in link and not (document.parent / link).exists()]
    assert missing == []


def test_the_python_examples_run_one_after_the_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for block in blocks("python"):
        exec(block, namespace)
    assert namespace["Y"].shape[0] == 99
    assert np.array_equal(namespace["both"][0], namespace["y"])  # a pool's slot, and a stream: both from the start


def test_the_c_example_compiles(tmp_path):
    (block,) = blocks("c")
    include, _, body = block.partition("\n")
    compiles(
        f"#define _ISOC11_SOURCE\n#include <stdlib.h>\n{include}\nint next_frame(float *x);\n"
        "int example(const void *image, size_t size, float *x, float *y);\n"
        f"int example(const void *image, size_t size, float *x, float *y)\n{{\n{body}return status;\n}}\n",
        tmp_path,
    )


def test_the_pool_of_the_guide_compiles(tmp_path):
    _, body = blocks("c", "docs/c-api.md")
    arguments = "sgru_model model, const void *const *inputs, void *const *outputs"
    compiles(
        '#define _ISOC11_SOURCE\n#include <stdlib.h>\n#include "streamgru.h"\n'
        f"int example({arguments});\nint example({arguments})\n{{\n{body}return status;\n}}\n",
        tmp_path,
    )


def compiles(program, folder):
    source = folder / "example.c"
    source.write_text(program)
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{ROOT / 'c_src'}"]
    done = subprocess.run(["cc", *flags, str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
