"""One C file made of the core's sources: the operators, functions and kernels that one model needs, and no others.

Nothing here parses C. The sources are read as clang-format leaves them: what a file defines begins in column 0, and so
do its directives. What two files call by one name gets the file's name as a suffix in both, and a file's macros end
with it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Set
from pathlib import Path, PurePosixPath

import streamgru
from streamgru.codes import FUNCTIONS_AT, Code
from streamgru.errors import OptionError
from streamgru.layout import Dtype, Tables, tables_of

CORE = ("model.c", "stream.c", "cpu.c", "ops/table.c")
PASSES_ON = "ops/elementwise.c"  # names functions to tell them apart, and calls those it is given
QUIET = (
    "#ifdef __clang__",
    '#pragma clang diagnostic ignored "-Wunused-function" /* inline ones, of other operators */',
    "#endif",
)
KERNELS_OF = {Dtype.F16: ("affine_f16",), Dtype.I8: ("quantise", "affine_i8")}  # of matrices of these
RARE_FILE = "kernels/rare.c"  # doubles, large on a small processor: only where one of its functions is needed
RARE = {"F_SIN", "F_COS", "B_POW", "B_MOD", "B_FMOD"}

DEFINED = re.compile(
    r"^static (?:inline )?(?:[\w*]+ )+?\**(?!NAME\b)(\w+)(?=[(;]|\[| =)"  # a function or an object
    r"|^typedef [^{;]*?\**(\w+);|^typedef struct (\w+) \{|^\} (\w+)",  # a type, or the object of one without a name
    re.MULTILINE,
)
ENUM = re.compile(r"^enum \{(.*?)\}", re.MULTILINE | re.DOTALL)
EXPORTED = re.compile(r"^(?!static|extern|typedef)\w[\w *]*?\b(sgru_\w+)(?=\(| =)", re.MULTILINE)
TABLE = re.compile(r"^SGRU_TABLE\((\w+), (\w+), (\w+)\);", re.MULTILINE)  # table, instruction set, its integers
INCLUDE = re.compile(r'^#include "([\w./]+)"\n', re.MULTILINE)
MACRO = re.compile(r"^#define (\w+)", re.MULTILINE)


def sources_folder() -> Path:
    """The C sources: those the wheel ships, or a checkout's."""
    package = Path(streamgru.__file__).resolve().parent
    shipped = package / "c_src"
    return shipped if shipped.is_dir() else package.parents[1] / "c_src"


class Sources:
    """The files of the core by their names in its folder."""

    def __init__(self, folder: Path) -> None:
        files = [*folder.glob("*.[ch]"), *folder.glob("ops/*.[ch]"), *folder.glob("kernels/*.[ch]")]
        self.text = {p.relative_to(folder).as_posix(): p.read_text(encoding="utf-8") for p in sorted(files)}
        self.tables = {found[0]: file for file, text in self.text.items() for found in TABLE.findall(text)}
        self.kernels = {found[1]: file for file, text in self.text.items() for found in TABLE.findall(text)}
        self.home = {name: file for file, text in self.text.items() for name in _exports(file, text)}

    def included(self, file: str) -> list[str]:
        """The files of the core that a file includes."""
        found = []
        for name in INCLUDE.findall(self.text[file]):
            beside = PurePosixPath(file).parent / name
            parts: list[str] = []
            for part in beside.parts:
                parts = parts[:-1] if part == ".." else [*parts, part]
            found.append("/".join(parts) if "/".join(parts) in self.text else name)
        return found

    def is_template(self, file: str) -> bool:
        """A header without a guard is included again by each that needs it."""
        return "#ifndef SGRU_" not in self.text[file] and "#ifndef STREAMGRU_H" not in self.text[file]

    def expanded(self, file: str) -> str:
        """A file with its templates in place and without its other includes, which come first."""
        text = self.text[file]
        for line, name in zip(INCLUDE.finditer(text), self.included(file), strict=True):
            text = text.replace(line[0], self.expanded(name) if self.is_template(name) else "", 1)
        return text

    def headers(self, files: Iterable[str]) -> list[str]:
        """The guarded headers that files rest on, each after those it includes itself."""
        order: list[str] = []
        for file in files:
            for name in self.included(file):
                order += [header for header in self.headers([name]) if header not in order]
                if name not in order and not self.is_template(name):
                    order.append(name)
        return order


def _exports(file: str, text: str) -> list[str]:
    if not file.endswith(".c"):
        return []
    return [*EXPORTED.findall(text), *(f"sgru_kernels_{found[0]}" for found in TABLE.findall(text))]


def amalgamate(image: bytes, kernels: Iterable[str] = ("ref",), folder: Path | None = None) -> str:
    """The text of ``streamgru.c`` for an image.

    Parameters
    ----------
    image : bytes
        A ``.sgru`` file.
    kernels : names of instruction sets
        Which tables of kernels to have; ``ref`` is always there.
    folder : path, optional
        The C sources.

    Raises
    ------
    OptionError
        There are no such kernels.
    """
    sources = Sources(folder or sources_folder())
    isas = ["ref", *sorted(set(kernels) - {"ref"})]
    if unknown := [isa for isa in isas if isa not in sources.kernels]:
        raise OptionError(
            f"there are no kernels {', '.join(unknown)}: choose among {', '.join(sorted(sources.kernels))}"
        )
    tables = tables_of(image)
    operators = _operators(tables)
    _keep_rows(sources, {code for code, _ in operators} or {Code.COPY})  # C has no empty arrays
    _keep_tables(sources, isas)
    files = _needed(sources, isas)
    used = _functions(sources, files, operators)
    if used & RARE:
        files.append(RARE_FILE)
    units = {file: sources.expanded(file) for file in files}
    shared = {header: INCLUDE.sub("", sources.text[header]) for header in sources.headers(files)}
    del shared["streamgru.h"]
    _leave_out_kernels(shared, units, set(tables.tensors["dtype"].tolist()))
    _part_names(shared, units)
    return "\n".join([_top(isas, used, sources), *shared.values(), *map(_closed, units.values())])


def _operators(tables: Tables) -> list[tuple[Code, list[int]]]:
    """Code and parameters of each operator of an image."""
    return [(Code(op["code"]), tables.words_of(op)[2]) for op in tables.operators]


def _keep_rows(sources: Sources, codes: Set[int]) -> None:
    """The table of operators with the rows of these codes alone."""
    rows = re.compile(r"^ +\[(\d+)\] = &\w+,\n", re.MULTILINE)
    table = sources.text["ops/table.c"]
    sources.text["ops/table.c"] = rows.sub(lambda row: row[0] if int(row[1]) in codes else "", table)


def _keep_tables(sources: Sources, isas: Iterable[str]) -> None:
    """cpu.c without the tables of other instruction sets."""
    tables = re.compile(r"&sgru_kernels_(\w+)")
    text = sources.text["cpu.c"]
    files = {sources.kernels[isa] for isa in isas}
    sources.text["cpu.c"] = tables.sub(lambda table: table[0] if sources.tables[table[1]] in files else "NULL", text)


def _needed(sources: Sources, isas: Iterable[str]) -> list[str]:
    """The core's files, those of the kernels, and those that define what these call."""
    files = [*CORE, *(sources.kernels[isa] for isa in isas)]
    for file in files:  # grows meanwhile
        files += {sources.tables[found[2]] for found in TABLE.findall(sources.text[file])} - set(files)
        names = re.findall(r"\bsgru_\w+", sources.expanded(file))
        homes = dict.fromkeys(sources.home[name] for name in names if name in sources.home)
        files += [home for home in homes if home not in files and home != RARE_FILE]
    return files


def _functions(sources: Sources, files: Iterable[str], operators: Iterable[tuple[Code, list[int]]]) -> set[str]:
    """The functions that operators call by name, or by their parameters."""
    numbers = _numbers(sources)
    used = set()
    for file in files:
        if file.startswith("ops/") and file != PASSES_ON:
            text = sources.text[file] + "".join(
                sources.text[name] for name in sources.headers([file]) if name != "kernels/kernels.h"
            )
            used |= set(re.findall(r"\b[FB]_[A-Z_]+\b", text)) & set(numbers)
    for code, params in operators:
        kind = "B_" if code == Code.BINARY else "F_"
        wanted = [params[at] for at in FUNCTIONS_AT[code]]
        used |= {name for name, number in numbers.items() if number in wanted and name.startswith(kind)}
    return used


def _numbers(sources: Sources) -> dict[str, int]:
    """The functions of kernels.h by name."""
    numbers = {}
    for body in ENUM.findall(sources.text["kernels/kernels.h"]):
        number = -1
        for name, value in re.findall(r"\b([FB]_(?!COUNT|FLOATS)\w+)(?: = (\d+))?", body):
            number = int(value) if value else number + 1
            numbers[name] = number
    return numbers


def _leave_out_kernels(shared: dict[str, str], units: dict[str, str], dtypes: set[int]) -> None:
    """NULL in the tables for what no operator calls, so that it is not linked."""
    called = {name for text in [*units.values(), *shared.values()] for name in re.findall(r"\bk->(\w+)", text)}
    called -= {name for dtype, names in KERNELS_OF.items() if dtype not in dtypes for name in names}
    head, macro, rest = shared["kernels/kernels.h"].partition("#define SGRU_TABLE(")
    entries, end, tail = rest.partition("\n    }\n")
    entry = re.compile(r"\.(\w+) = (\w+_##\w+)")
    entries = entry.sub(lambda e: e[0] if e[1] in called else f".{e[1]} = SGRU_LEFT_OUT({e[2]})", entries)
    left_out = "#define SGRU_LEFT_OUT(kernel) (0 ? kernel : NULL)\n"
    shared["kernels/kernels.h"] = head + left_out + macro + entries + end + tail


def _part_names(shared: dict[str, str], units: dict[str, str]) -> None:
    """Renames what more than one file defines, in the files that define it."""
    names = {file: _defined(text) for file, text in units.items()}
    taken = Counter(name for defined in names.values() for name in defined)
    taken.update({name for text in shared.values() for name in _defined(text)})
    for file, text in units.items():
        twice = sorted(name for name in names[file] if taken[name] > 1)
        if twice:
            pattern = rf"(?<![\w.])(?<!->)({'|'.join(twice)})\b"
            units[file] = re.sub(pattern, rf"\1_{PurePosixPath(file).stem}", text)


def _defined(text: str) -> set[str]:
    found = {name for match in DEFINED.findall(text) for name in match if name}
    for body in ENUM.findall(text):
        found |= set(re.findall(r"\b([A-Za-z]\w*)\b(?=\s*(?:=|,|$))", re.sub(r"/\*.*?\*/|=[^,]*", "", body)))
    return found


def _closed(text: str) -> str:
    """A file whose macros end with it."""
    return text + "".join(f"#undef {name}\n" for name in sorted(set(MACRO.findall(text))))


def _top(isas: Iterable[str], used: set[str], sources: Sources) -> str:
    numbers = _numbers(sources)
    lines = [
        "/* The core of streamgru in one file, with what one model needs. C99, no allocation, no libm. Made by",
        " * `streamgru embed`: change the model and make it again. Compile it with -ffp-contract=off. */",
    ]
    if list(isas) == ["ref"]:
        lines.append("#define SGRU_NO_SIMD")
    for kind, prefix in (("UNARY", "F_"), ("BINARY", "B_")):
        bits = sum({1 << numbers[name] for name in used if name.startswith(prefix)})
        lines.append(f"#define SGRU_{kind}_FUNCTIONS UINT64_C({bits:#x})")
    return "\n".join([*lines, *QUIET, "", '#include "streamgru.h"', ""])
