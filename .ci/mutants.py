"""Change the source in small ways and see whether a test notices: .ci/mutants.py [--sample N] [--redo] PATH...

The changes are those of mutmut (`pip install mutmut coverage`). Its own way of running them puts a function in front of
every function, which adds a frame to each call, and this package looks at frames to tell whose exception it has: so the
run is our own. Nothing on disk is changed. A process collects the tests once; for each mutant a fork of it gets the
changed code object and runs the tests that execute the changed lines, the fast ones first, until one fails. What runs
at import (constants, tables, patterns, decorators) is changed in a fork that has not imported the package yet.

PATH is a file or directory below asgi_trace/. `--sample N` takes N mutants, always the same. Results are kept in
.mutants/: coverage.json (which test runs which line), results.jsonl (one mutant a line; a second run only does what is
missing, with `--redo` also what survived). The survivors are printed with their difference.
"""

from __future__ import annotations

import argparse
import difflib
import functools
import importlib
import importlib.abc
import importlib.util
import itertools
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import coverage
import hypothesis
import libcst as cst
import pytest
from libcst.metadata import MetadataWrapper, ParentNodeProvider, PositionProvider
from mutmut.mutation.mutators import mutation_operators

ROOT = Path(__file__).parents[1]
KEPT = ROOT / ".mutants"
# The tests that run the request path in their own process. Servers in processes of their own would not see a mutant.
TESTS = ["propagation", "semconv", "server", "client", "logs", "options", "otel", "sdk", "traced", "routing", "routes"]
PLAIN = ["-q", "-p", "no:randomly", "-p", "no:xdist", "-p", "no:cacheprovider"]
PLAIN += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
MOST_SECONDS = 5.0  # of the CPU, for the tests of one mutant, as recorded with the coverage; `--seconds`


NOT_TRIED = 99  # exit status: the code could not be exchanged
MOST_WAIT = 60  # seconds for one mutant, after which it counts as killed: it hangs


@dataclass(frozen=True)
class Mutant:
    """One change. `function` is the outermost function or method it is in, empty for what runs at import."""

    key: str
    path: str
    lines: range
    function: str
    module: cst.Module
    node: cst.CSTNode
    changed: cst.CSTNode

    @functools.cached_property
    def code(self) -> str:
        """The source of the changed module."""
        return cst.ensure_type(self.module.deep_replace(self.node, self.changed), cst.Module).code

    def compiled(self, filename: str) -> CodeType:
        return compile(self.code, filename, "exec", dont_inherit=True)


class Mutants(cst.CSTVisitor):
    """Every mutant of a module: the node, what stands in its place, its lines, and the function it is in."""

    METADATA_DEPENDENCIES = (PositionProvider, ParentNodeProvider)

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[cst.CSTNode, cst.CSTNode, range, str]] = []
        self._names: list[str] = []
        self._function: list[str] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, (cst.FunctionDef, cst.ClassDef)):
            self._names.append(node.name.value)
            if isinstance(node, cst.FunctionDef):
                self._function.append(".".join(self._names))
        elif isinstance(node, (cst.Parameters, cst.Decorator)):  # evaluated where the function is defined
            self._function.insert(0, "")
        if isinstance(node, (cst.Annotation, cst.Import, cst.ImportFrom)) or _is_left_alone(node):
            return False
        for kind, operator in mutation_operators:
            if isinstance(node, kind):
                for changed in operator(node):
                    self._add(node, changed)
        if isinstance(node, cst.Expr) and isinstance(node.value, (cst.Call, cst.Await)):
            self._add(node, node.with_changes(value=cst.Name("None")))  # a statement that only has an effect
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if isinstance(original_node, (cst.FunctionDef, cst.ClassDef)):
            self._names.pop()
            if isinstance(original_node, cst.FunctionDef):
                self._function.pop()
        elif isinstance(original_node, (cst.Parameters, cst.Decorator)):
            del self._function[0]

    def _add(self, node: cst.CSTNode, changed: cst.CSTNode) -> None:
        place: Any = self.get_metadata(PositionProvider, node, None)
        above: Any = node
        while place is None or place.start.line == 0:
            above = self.get_metadata(ParentNodeProvider, above)
            place = self.get_metadata(PositionProvider, above, None)
        lines = range(place.start.line, place.end.line + 1)
        self.found.append((node, changed, lines, self._function[0] if self._function else ""))


def _is_left_alone(node: cst.CSTNode) -> bool:
    """What no run can tell apart: names for `import *`, and calls for which mutmut makes no mutant either."""
    if isinstance(node, cst.Assign):
        return any(isinstance(each.target, cst.Name) and each.target.value == "__all__" for each in node.targets)
    return isinstance(node, cst.Call) and isinstance(node.func, cst.Name) and node.func.value in ("len", "isinstance")


def mutants_of(path: Path) -> Iterator[Mutant]:
    """The mutants of one file, with an identity that stays the same as long as the file does."""
    module = MetadataWrapper(cst.parse_module(path.read_text("utf-8")))
    visitor = Mutants()
    tree = module.visit(visitor)
    name = path.relative_to(ROOT).as_posix()
    for number, (node, changed, lines, function) in enumerate(visitor.found):
        yield Mutant(f"{name}:{lines.start}:{number}", name, lines, function, tree, node, changed)


def module_name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


class Plain:
    """A pytest plugin: Hypothesis looks for a failing example, and not for the smallest one."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        hypothesis.settings.register_profile(
            "mutants", hypothesis.settings(), phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate]
        )
        hypothesis.settings.load_profile("mutants")


class Recorder(Plain):
    """A pytest plugin: which lines each test executes, and how long it takes."""

    def __init__(self) -> None:
        self.coverage = coverage.Coverage(data_file=None, source=["asgi_trace"], config_file=False)
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.coverage.switch_context(item.nodeid)
        begin = time.process_time()  # the machine may be busy with something else
        result = yield
        self.seconds[item.nodeid] = time.process_time() - begin
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.add(report.nodeid)

    def run(self) -> int:
        """Run all tests once and write what was seen. A test that fails as it is tells nothing of mutants."""
        self.coverage.start()
        pytest.main([*PLAIN, *(f"tests/{each}" for each in TESTS)], plugins=[self])
        self.coverage.stop()
        data = self.coverage.get_data()
        numbers = {test: number for number, test in enumerate(self.seconds)}
        lines: dict[str, dict[int, list[int]]] = {}
        at_import: dict[str, list[int]] = {}  # before the first test, as the functions that only make other functions
        for file in data.measured_files():
            by_line = data.contexts_by_lineno(file)
            name = Path(file).relative_to(ROOT).as_posix()
            lines[name] = {n: [numbers[t] for t in ts if t and t not in self.failed] for n, ts in by_line.items()}
            at_import[name] = [n for n, ts in by_line.items() if "" in ts]
        KEPT.mkdir(exist_ok=True)
        recorded = {"seconds": self.seconds, "lines": lines, "at_import": at_import}
        (KEPT / "coverage.json").write_text(json.dumps(recorded))
        return 0


def in_fork(work: Any, *arguments: Any) -> tuple[int, float]:
    """The wait status of a fork that does `work`, and its CPU seconds."""
    before = os.times()
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (1, 2):
            os.dup2(null, descriptor)
        code = NOT_TRIED
        try:
            code = work(*arguments)
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return status, spent


class Swapper(Plain):
    """A pytest plugin that, instead of running the tests, tries every mutant inside of a function in a fork."""

    def __init__(self, mutants: list[Mutant], report: Any, tests: Tests) -> None:
        self.mutants, self.report, self.tests = mutants, report, tests

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        for mutant in self.mutants:
            chosen = [items[test] for test in self.tests.of(mutant) if test in items]
            self.report(mutant, len(chosen), *in_fork(self._try, session, mutant, chosen))
        return True

    def _try(self, session: pytest.Session, mutant: Mutant, items: list[pytest.Item]) -> int:
        signal.alarm(MOST_WAIT)
        function = live_function(sys.modules[module_name(mutant.path)], mutant.function)
        if function is None:
            return NOT_TRIED
        filename = function.__code__.co_filename
        changed = find_code(mutant.compiled(filename), mutant.function)
        try:
            function.__code__ = changed  # type: ignore[assignment]
        except ValueError:  # other free variables
            return NOT_TRIED
        for item, following in itertools.zip_longest(items, items[1:]):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.testsfailed:
                return 1
        return 0


def live_function(module: ModuleType, name: str) -> FunctionType | None:
    """The function that stands behind a name: below properties, class methods and decorators."""
    found: Any = module
    for part in name.split("."):
        found = vars(found).get(part) if hasattr(found, "__dict__") else None
    while found is not None and not isinstance(found, FunctionType):
        found = getattr(found, "fget", None) or getattr(found, "__func__", None) or getattr(found, "__wrapped__", None)
    while found is not None and hasattr(found, "__wrapped__"):
        found = found.__wrapped__
    return found if isinstance(found, FunctionType) else None


def find_code(code: CodeType, name: str) -> CodeType | None:
    """The code object of a function or method in the code of its module; of several the last."""
    found: CodeType | None = code
    for part in name.split("."):
        inner = [each for each in (found.co_consts if found else ()) if isinstance(each, CodeType)]
        found = next((each for each in reversed(inner) if each.co_name == part), None)
    return found


class Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from changed source."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != module_name(self.mutant.path):
            return None
        return importlib.util.spec_from_file_location(name, ROOT / self.mutant.path, loader=self)

    def create_module(self, spec: Any) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(self.mutant.compiled(str(module.__file__)), vars(module))  # noqa: S102


class Only(Plain):
    """A pytest plugin that runs these tests, in this order."""

    def __init__(self, tests: list[str]) -> None:
        self.tests = {test: place for place, test in enumerate(tests)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((i for i in items if i.nodeid in self.tests), key=lambda item: self.tests[item.nodeid])


def try_import(mutant: Mutant, tests: list[str]) -> int:
    """Run the tests with the package imported anew."""
    signal.alarm(MOST_WAIT)
    sys.meta_path.insert(0, Changed(mutant))
    files = dict.fromkeys(test.partition("::")[0] for test in tests)
    return int(pytest.main([*PLAIN, "-x", *files], plugins=[Only(tests)])) if tests else 0


class Tests:
    """Which tests run a mutant's lines, and in which order."""

    def __init__(self, most_seconds: float) -> None:
        self._most = most_seconds
        recorded = json.loads((KEPT / "coverage.json").read_text())
        self._seconds: dict[str, float] = recorded["seconds"]
        self._names = list(self._seconds)
        self._lines: dict[str, dict[str, list[int]]] = recorded["lines"]
        self._at_import: dict[str, list[int]] = recorded["at_import"]

    def is_at_import(self, mutant: Mutant) -> bool:
        """Whether the changed lines run when the package is imported, so that exchanging code comes too late."""
        return not mutant.function or not set(mutant.lines).isdisjoint(self._at_import.get(mutant.path, ()))

    def of(self, mutant: Mutant) -> list[str]:
        """The fast first, and of a test function with many cases the later ones later; at most so many seconds of them.

        For what runs at import these are the tests that run anything of the module, and for a module of constants all.
        """
        lines = self._lines.get(mutant.path, {})
        wanted = list(lines) if self.is_at_import(mutant) else [str(line) for line in mutant.lines]
        found = {self._names[number] for line in wanted for number in lines.get(line, ())}
        if not any(lines.values()):
            found = set(self._names)
        cases: Counter[str] = Counter()
        order: list[tuple[float, float, str]] = []
        for test in sorted(found, key=lambda test: (self._seconds[test], test)):
            name = test.partition("[")[0]
            cases[name] += 1
            order.append((cases[name] * self._seconds[test], self._seconds[test], test))
        order.sort()
        spent = itertools.accumulate(seconds for _, seconds, _ in order)
        return [test for (_, _, test), total in zip(order, spent, strict=True) if total <= self._most]


class Results:
    """One line of JSON for each mutant, written as soon as it is known."""

    def __init__(self) -> None:
        self._path = KEPT / "results.jsonl"
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        self.of = {each["key"]: each for each in map(json.loads, lines)}

    def add(self, mutant: Mutant, tests: int, status: int, seconds: float) -> None:
        outcome = {0: "survived", NOT_TRIED: "not tried"}.get(os.waitstatus_to_exitcode(status), "killed")
        found = {
            "key": mutant.key,
            "outcome": outcome,
            "tests": tests,
            "status": status,
            "seconds": round(seconds, 2),
        }
        self.of[mutant.key] = found
        with self._path.open("a") as file:
            file.write(json.dumps(found) + "\n")


def run(mutants: list[Mutant], results: Results, tests: Tests) -> None:
    """Try all of them: in functions by exchanging code, the others by importing anew."""
    inside = [mutant for mutant in mutants if not tests.is_at_import(mutant)]
    if inside:
        names = [f"tests/{each}" for each in TESTS]
        in_fork(pytest.main, [*PLAIN, *names], [Swapper(inside, results.add, tests)])
    tried = {key for key, found in Results().of.items() if found["outcome"] != "not tried"}
    for mutant in mutants:
        if tests.is_at_import(mutant) or mutant.key not in tried:
            chosen = tests.of(mutant)
            results.add(mutant, len(chosen), *in_fork(try_import, mutant, chosen))


def show(mutants: list[Mutant], results: Results) -> None:
    """The survivors with their difference, then one line for each directory, with the 95 % interval of its score."""
    outcomes: dict[str, list[tuple[bool, bool]]] = {}  # of each directory: whether a mutant survived, or hung
    for mutant in mutants:
        result = results.of.get(mutant.key)
        if result is None:
            continue
        survived = result["outcome"] == "survived"
        outcomes.setdefault(str(Path(mutant.path).parent), []).append((survived, result["status"] == signal.SIGALRM))
        if survived:
            before = (ROOT / mutant.path).read_text("utf-8").splitlines()
            difference = list(difflib.unified_diff(before, mutant.code.splitlines(), n=0, lineterm=""))[3:]
            print(mutant.key, mutant.function, f"({result['tests']} tests)", *difference, sep="\n  ")
    for directory, found in sorted(outcomes.items()):
        total, survived, hung = len(found), sum(each for each, _ in found), sum(each for _, each in found)
        killed = total - survived
        low, high = interval(killed, total)
        score = f"{killed / total:.1%} ({low:.1%} to {high:.1%} of all)"
        print(f"{directory}: {total} mutants, {killed} killed ({hung} hung), {survived} survived: {score}")


def interval(killed: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, for a sample of many more."""
    z = 1.96
    share, scale = killed / total, 1 + z * z / total
    half = z * (share * (1 - share) / total + z * z / (4 * total * total)) ** 0.5
    return (share + z * z / (2 * total) - half) / scale, (share + z * z / (2 * total) + half) / scale


def main() -> None:
    """Record, try, show."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("paths", nargs="+", type=Path)
    options.add_argument("--sample", type=int, help="how many mutants, the same each time")
    options.add_argument("--seconds", type=float, default=MOST_SECONDS, help="of tests for one mutant, at most")
    options.add_argument("--redo", action="store_true", help="try again what survived")
    chosen = options.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    for name in ("opentelemetry.sdk.trace", "opentelemetry.sdk.metrics", "fastapi", "starlette.testclient", "httpx2"):
        importlib.import_module(name)
    if not (KEPT / "coverage.json").exists():
        in_fork(Recorder().run)
    files = sorted(file for path in chosen.paths for file in ([path] if path.suffix else path.rglob("*.py")))
    mutants = [mutant for file in files for mutant in mutants_of(file.resolve())]
    random.Random(15).shuffle(mutants)  # noqa: S311
    mutants = mutants[: chosen.sample]
    results = Results()
    done = {key for key, found in results.of.items() if not chosen.redo or found["outcome"] == "killed"}
    run([mutant for mutant in mutants if mutant.key not in done], results, Tests(chosen.seconds))
    show(mutants, Results())  # the forks wrote most of them


if __name__ == "__main__":
    main()
