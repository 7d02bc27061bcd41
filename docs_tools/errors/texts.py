"""Texts that an expression of the source code can have, with ``…`` for what is known only when it runs."""

import ast
import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache

from docs_tools.errors.source import FUNCTIONS, Module, Source

UNKNOWN = "…"
MAX_TEXTS, MAX_DEPTH, MAX_METHODS = 12, 10, 3
# Methods of a text that leave its words.
_KEEPS_WORDS = {"strip", "rstrip", "lstrip", "capitalize", "removesuffix", "removeprefix", "format", "replace"}


@dataclass(frozen=True, eq=False)
class Frame:
    """Where an expression stands.

    Attributes:
        module: Its module.
        function: The innermost function around it; None at the top of a module.
        given: Texts of the function's arguments where it is called; unknown ones are missing.
        depth: Number of calls and names that were followed on the way.
    """

    module: Module
    function: ast.AST | None = None
    given: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    depth: int = 0

    def inner(self, module: Module, function: ast.AST | None, given: Mapping[str, tuple[str, ...]]) -> "Frame":
        """Return the frame of a called function, or of a constant of a module."""
        return Frame(module, function, given, self.depth + 1)


def words_of(text: str) -> int:
    """Return the number of words of a text that are not ``…``."""
    return len(re.findall(r"[A-Za-z]{2,}", text))


class Texts:
    """Evaluates expressions to their possible texts."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._known: dict[tuple[object, ...], tuple[str, ...]] = {}
        self._kinds: dict[type, Callable[..., Iterable[str]]] = {
            ast.JoinedStr: self._of_joined,
            ast.BinOp: self._of_operation,
            ast.IfExp: lambda node, frame: (*self.of(node.body, frame), *self.of(node.orelse, frame)),
            ast.BoolOp: lambda node, frame: tuple(itertools.chain(*(self.of(it, frame) for it in node.values))),
            ast.NamedExpr: lambda node, frame: self.of(node.value, frame),
            ast.Name: self._of_name,
            ast.Call: self._of_call,
            ast.Attribute: self._of_attribute,
        }

    def of(self, node: ast.AST | None, frame: Frame) -> tuple[str, ...]:
        """Return the texts that an expression can have; ``("…",)`` if nothing is known."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return (node.value,)
        kind = self._kinds.get(type(node))
        if kind is None or frame.depth > MAX_DEPTH:
            return (UNKNOWN,)
        key = (node, frame.function, *frame.given.items())
        if key not in self._known:
            # A variable that is made of itself ends here.
            self._known[key] = (UNKNOWN,)
            self._known[key] = tuple(dict.fromkeys(kind(node, frame)))[:MAX_TEXTS] or (UNKNOWN,)
        return self._known[key]

    def _of_joined(self, node: ast.JoinedStr, frame: Frame) -> Iterable[str]:
        texts: list[str] = [""]
        for part in node.values:
            is_value = any(", got" in text and not text.rstrip().endswith(".") for text in texts)
            more = self._of_part(part, frame, is_value=is_value)
            texts = ["".join(chosen) for chosen in itertools.product(texts, more)][:MAX_TEXTS]
        return texts

    def _of_part(self, part: ast.expr, frame: Frame, *, is_value: bool) -> tuple[str, ...]:
        if not isinstance(part, ast.FormattedValue):
            return self.of(part, frame)
        if part.format_spec is not None or _is_shown(part.value):
            return (UNKNOWN,)
        texts = self.of(part.value, frame)
        # Short words, such as a unit in singular and plural, make no other message; nor do descriptions of a value.
        are_values = all(words_of(text) < 3 for text in texts) or (is_value and not any(". " in it for it in texts))
        return (UNKNOWN,) if len(texts) > 1 and are_values else texts

    def _of_operation(self, node: ast.BinOp, frame: Frame) -> Iterable[str]:
        if not isinstance(node.op, ast.Add):
            return (UNKNOWN,)
        return (a + b for a, b in itertools.product(self.of(node.left, frame), self.of(node.right, frame)))

    def _of_name(self, node: ast.Name, frame: Frame) -> Iterable[str]:
        for function in self._functions_around(frame):
            if texts := self._assigned(node, function, frame):
                return texts
            if function is frame.function and node.id in frame.given:
                return frame.given[node.id]
            if node.id in _annotations(function):
                default = self.of(defaults_of(function).get(node.id), frame.inner(frame.module, None, {}))
                # A sentence is a part of the message; any other default is one of the argument's values.
                return default if words_of(default[0]) > 2 else (UNKNOWN,)
        meant = self.source.meaning(node.id, frame.module)
        return self.of(meant[1], frame.inner(meant[0], None, {})) if meant else (UNKNOWN,)

    def _functions_around(self, frame: Frame) -> list[ast.AST]:
        if frame.function is None:
            return []
        return [frame.function, *(it for it in frame.module.holders(frame.function) if isinstance(it, FUNCTIONS))]

    def _assigned(self, name: ast.Name, function: ast.AST, frame: Frame) -> list[str]:
        """Return the texts of a variable where it is used: of each assignment, and of each with what is appended."""
        texts: list[str] = []
        inner = Frame(frame.module, function, frame.given, frame.depth + 1)
        around = set(frame.module.ancestors(name))
        for statement, value in _reaching(name, function, frame.module):
            more = list(self.of(value, inner))
            if isinstance(statement, ast.AugAssign):
                more = [a + b for a, b in itertools.product(texts, more)]
            is_sure = frame.module.parents[statement] in around
            texts = more if is_sure else texts + more
        return texts[:MAX_TEXTS]

    def _of_call(self, node: ast.Call, frame: Frame) -> Iterable[str]:
        if isinstance(node.func, ast.Attribute) and node.func.attr in _KEEPS_WORDS:
            return self.of(node.func.value, frame)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "join" and node.args:
            return self._of_join(node.func.value, node.args[0], frame)
        if isinstance(node.func, ast.Name) and node.func.id in ("str", "shorten") and node.args:
            return self.of(node.args[0], frame)
        if isinstance(node.func, ast.Name) and node.func.id == "next" and len(node.args) == 2:
            return (*self.of(node.args[1], frame), UNKNOWN)
        texts: list[str] = []
        for inner in self.called(node, frame):
            for result in returned(inner.function):
                texts += self.of(result, inner)
        return texts

    def _of_join(self, separator: ast.expr, joined: ast.expr, frame: Frame) -> Iterable[str]:
        if not isinstance(joined, ast.List | ast.Tuple):
            return (UNKNOWN,)
        parts = [self.of(it.value if isinstance(it, ast.Starred) else it, frame) for it in joined.elts]
        between = self.of(separator, frame)[0]
        return (between.join(chosen) for chosen in itertools.islice(itertools.product(*parts), MAX_TEXTS))

    def _of_attribute(self, node: ast.Attribute, frame: Frame) -> Iterable[str]:
        """Return the texts of a class's constant: ``self.X``."""
        holder = self.class_around(frame)
        if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls") and holder is not None:
            for each in holder.body:
                # A field's default is one of its values.
                pairs = () if isinstance(each, ast.AnnAssign) else assignments(each)
                for target, value in pairs:
                    if isinstance(target, ast.Name) and target.id == node.attr:
                        return self.of(value, frame.inner(frame.module, None, {}))
                if isinstance(each, FUNCTIONS) and each.name == node.attr:
                    inner = frame.inner(frame.module, each, {})
                    return [text for result in returned(each) for text in self.of(result, inner)]
        return (UNKNOWN,)

    def class_around(self, frame: Frame) -> ast.ClassDef | None:
        """Return the class of the method in which a frame is."""
        around = frame.module.holders(frame.function) if frame.function is not None else iter(())
        return next((it for it in around if isinstance(it, ast.ClassDef)), None)

    def called(self, node: ast.Call, frame: Frame) -> list[Frame]:
        """Return the functions of the package that a call may run, with the texts of their arguments."""
        return [
            frame.inner(module, function, self.arguments(node, function, frame, module, is_method=is_method))
            for module, function, is_method in self._functions_named(node.func, frame)
        ]

    def _functions_named(self, func: ast.expr, frame: Frame) -> list[tuple[Module, ast.AST, bool]]:
        if isinstance(func, ast.Name):
            for function in self._functions_around(frame):
                if inner := inner_functions(function).get(func.id):
                    return [(frame.module, inner, False)]
            meant = self.source.meaning(func.id, frame.module)
            return [(*meant, False)] if meant and isinstance(meant[1], FUNCTIONS) else []
        if not isinstance(func, ast.Attribute):
            return []
        if isinstance(func.value, ast.Name) and (of_module := self._in_module(func.value.id, func.attr, frame)):
            return [of_module]
        found = self.source.methods.get(func.attr, [])
        kind = self._kind_of_object(func.value, frame)
        found = [it for it in found if it[1].name == kind] or found
        found = [it for it in found if it[0] is frame.module] or found
        if len(found) > MAX_METHODS:
            return []
        return [(module, method, not _is_static(method)) for module, _, method in found]

    def _kind_of_object(self, node: ast.expr, frame: Frame) -> str:
        """Return the name of an object's class, from ``self`` or the annotation of an argument."""
        if not isinstance(node, ast.Name) or frame.function is None:
            return ""
        if node.id == "self":
            return getattr(self.class_around(frame), "name", "")
        for function in self._functions_around(frame):
            if annotation := _annotations(function).get(node.id):
                return annotation
            for _, value in variables_of(function).get(node.id, ()):
                called = value.func if isinstance(value, ast.Call) else value
                meant = self.source.meaning(getattr(called, "id", ""), frame.module)
                if meant and isinstance(meant[1], FUNCTIONS) and meant[1].returns:
                    return ast.unparse(meant[1].returns).strip("'")
                if meant and isinstance(meant[1], ast.ClassDef):
                    return meant[1].name
        return ""

    def _in_module(self, alias: str, name: str, frame: Frame) -> tuple[Module, ast.AST, bool] | None:
        origin, original = frame.module.imports.get(alias, ("", ""))
        module = self.source.modules.get(f"{origin}.{original}")
        meant = self.source.meaning(name, module) if module else None
        return (*meant, False) if meant and isinstance(meant[1], FUNCTIONS) else None

    def arguments(
        self, node: ast.Call, function: ast.AST, frame: Frame, module: Module, *, is_method: bool
    ) -> dict[str, tuple[str, ...]]:
        """Return the texts of the arguments of a call, with those of missing arguments from their defaults."""
        args = function.args  # type: ignore[attr-defined]
        names = [it.arg for it in [*args.posonlyargs, *args.args]][int(is_method) :]
        given = dict(zip(names, node.args, strict=False)) | {it.arg: it.value for it in node.keywords if it.arg}
        inner = frame.inner(module, None, {})
        defaults = {name: self.of(value, inner) for name, value in defaults_of(function).items()}
        return defaults | {name: self.of(value, frame) for name, value in given.items()}


def assignments(node: ast.AST) -> list[tuple[ast.expr, ast.expr]]:
    """Return the pairs of target and value of a statement; those of tuples one by one."""
    if isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
        return [(node.target, node.value)]
    if not isinstance(node, ast.Assign):
        return []
    target, value = node.targets[0], node.value
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        return list(zip(target.elts, value.elts, strict=True))
    return [(target, value)]


@cache
def variables_of(function: ast.AST) -> dict[str, list[tuple[ast.AST, ast.expr]]]:
    """Return the statements that give a value to each variable of a function, in their order, with the value."""
    found: dict[str, list[tuple[ast.AST, ast.expr]]] = {}
    for node in ast.walk(function):
        pairs = [(node.target, node.value)] if isinstance(node, ast.AugAssign) else assignments(node)
        for target, value in pairs:
            if isinstance(target, ast.Name):
                found.setdefault(target.id, []).append((node, value))
    return {name: sorted(each, key=lambda it: it[0].lineno) for name, each in found.items()}  # type: ignore[attr-defined]


def _reaching(name: ast.Name, function: ast.AST, module: Module) -> list[tuple[ast.AST, ast.expr]]:
    """Return the statements whose value a variable may have where it is used: the last that always runs, and later."""
    every = variables_of(function).get(name.id, [])
    before = [it for it in every if _end(it[0]) <= (name.lineno, name.col_offset)]
    around = set(module.ancestors(name))
    for number, (statement, _) in reversed(list(enumerate(before))):
        if not isinstance(statement, ast.AugAssign) and module.parents[statement] in around:
            return before[number:]
    return before or ([] if name.id in _annotations(function) else every)


def _end(node: ast.AST) -> tuple[int, int]:
    return node.end_lineno, node.end_col_offset  # type: ignore[attr-defined]


@cache
def inner_functions(function: ast.AST) -> dict[str, ast.AST]:
    """Return the functions that are defined in a function, by name."""
    return {it.name: it for it in ast.walk(function) if isinstance(it, FUNCTIONS) and it is not function}


@cache
def returned(function: ast.AST | None) -> list[ast.expr]:
    """Return what a function returns."""
    nodes = ast.walk(function) if function is not None else ()
    return [node.value for node in nodes if isinstance(node, ast.Return) and node.value is not None]


@cache
def _annotations(function: ast.AST) -> dict[str, str]:
    """Return the annotation of each parameter, as text."""
    args = function.args  # type: ignore[attr-defined]
    every = [*args.posonlyargs, *args.args, *args.kwonlyargs]
    return {it.arg: ast.unparse(it.annotation).strip("'") if it.annotation else "" for it in every}


@cache
def defaults_of(function: ast.AST) -> dict[str, ast.expr]:
    """Return the defaults of a function's parameters."""
    args = function.args  # type: ignore[attr-defined]
    names = [it.arg for it in [*args.posonlyargs, *args.args]]
    last = dict(zip(names[len(names) - len(args.defaults) :], args.defaults, strict=True))
    return last | {it.arg: value for it, value in zip(args.kwonlyargs, args.kw_defaults, strict=True) if value}


def _is_shown(node: ast.expr) -> bool:
    """Return whether an expression is a value that is made fit for a message, such as the name of a file."""
    called = node.func if isinstance(node, ast.Call) else node
    name = getattr(called, "id", getattr(called, "attr", ""))
    return name.lstrip("_").startswith(("shown", "where", "name"))


def _is_static(function: ast.AST) -> bool:
    return any(isinstance(it, ast.Name) and it.id == "staticmethod" for it in function.decorator_list)  # type: ignore[attr-defined]
