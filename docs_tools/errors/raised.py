"""Places of the package that raise an error, and the messages of each."""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from docs_tools.errors.cures import PASSED_ON
from docs_tools.errors.source import FUNCTIONS, Module, Source
from docs_tools.errors.texts import UNKNOWN, Frame, Texts, returned, variables_of, words_of

MIN_WORDS, MAX_CALLERS = 2, 3


@dataclass(frozen=True, eq=False)
class Raised:
    """A place that raises an error.

    Attributes:
        module: Its module.
        node: The statement or call.
        kind: Name of the error's class.
        texts: Possible messages, ``…`` for values; empty if none was found.
        function: The function around it.
    """

    module: Module
    node: ast.AST
    kind: str
    texts: tuple[str, ...]
    function: ast.AST | None

    @property
    def place(self) -> str:
        """Module and function, without the package: ``core.ct.geometry.VoxelGrid.inverse``."""
        module = self.module.name.removeprefix("luna_pipeline.")
        return f"{module}.{self.module.name_of(self.function)}" if self.function is not None else module

    @property
    def is_caught(self) -> bool:
        """Whether the text is, or holds, that of a caught error or of the operating system."""
        names = {it.name for it in ast.walk(self.function or self.module.tree) if isinstance(it, ast.ExceptHandler)}
        parts = [it for it in ast.walk(self.node.exc) if isinstance(it, ast.Name | ast.Attribute)]  # type: ignore[attr-defined]
        return any(getattr(it, "id", "") in names or getattr(it, "attr", "") == "strerror" for it in parts)

    @property
    def has_no_own_text(self) -> bool:
        """Whether the text is made elsewhere, or there is none to be read."""
        return self.kind == "SystemExit" or self.is_caught or self.place in PASSED_ON


class Reader:
    """Finds what the package raises."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.texts = Texts(source)

    def read(self) -> Iterator[Raised]:
        """Yield every place that raises a new error; those that raise a caught one again are left out."""
        for module in self.source.modules.values():
            for node in module.nodes:
                if isinstance(node, ast.Raise) and node.exc is not None:
                    yield from self._raised(node, module)

    def _raised(self, node: ast.Raise, module: Module) -> Iterator[Raised]:
        function = next((it for it in module.holders(node) if isinstance(it, FUNCTIONS)), None)
        frame = Frame(module, function)
        for call, inner in self.errors_of(node.exc, frame):
            texts = self._messages(call, inner, may_ask_callers=inner is frame)
            kind = self.kind_of(call, inner)
            found = Raised(module, node, kind, complete_ones(dict.fromkeys(map(tidy, texts))), function)
            # What is added to the text of a caught error, such as the name of a file, is no message.
            is_added = found.is_caught and all(text.startswith(UNKNOWN) and words_of(text) < 4 for text in found.texts)
            yield replace(found, texts=()) if is_added else found

    def errors_of(self, node: ast.AST | None, frame: Frame) -> list[tuple[ast.Call, Frame]]:
        """Return the calls that make an error: the expression itself, or those that a variable or function holds."""
        if isinstance(node, ast.IfExp):
            return [*self.errors_of(node.body, frame), *self.errors_of(node.orelse, frame)]
        if isinstance(node, ast.Name) and frame.function is not None:
            values = variables_of(frame.function).get(node.id, ())
            return [found for _, value in values for found in self.errors_of(value, frame)]
        if not isinstance(node, ast.Call) or frame.depth > 6:
            return []
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("with_traceback", "with_cause"):
            return self.errors_of(node.func.value, frame)
        if self._class_of(node.func, frame) is None and (called := self.texts.called(node, frame)):
            return [
                found
                for inner in called
                for result in returned(inner.function)
                for found in self.errors_of(result, inner)
            ]
        # Other calls return an error that was raised elsewhere.
        last = ast.unparse(node.func).rpartition(".")[2].lstrip("_")
        return [(node, frame)] if last[:1].isupper() or last == "error" or last.startswith("type(") else []

    def _class_of(self, func: ast.expr, frame: Frame) -> tuple[Module, ast.ClassDef] | None:
        meant = self.source.meaning(func.id, frame.module) if isinstance(func, ast.Name) else None
        return meant if meant and isinstance(meant[1], ast.ClassDef) else None  # type: ignore[return-value]

    def kind_of(self, call: ast.Call, frame: Frame) -> str:
        """Return the name of an error's class."""
        name = ast.unparse(call.func)
        return name.rpartition(".")[2] if re.fullmatch(r"[\w.]+", name) else "the same error"

    def _messages(self, call: ast.Call, frame: Frame, *, may_ask_callers: bool) -> list[str]:
        texts = [text for nodes, inner in self._message_nodes(call, frame) for text in self._best(nodes, inner)]
        good = [text for text in texts if words_of(text) >= MIN_WORDS]
        if good and not any(text.endswith(f". {UNKNOWN}") for text in good):
            return good
        # The message, or what to do, is an argument.
        return (self._from_callers(call, frame) if may_ask_callers else []) or good

    def _best(self, nodes: list[ast.expr], frame: Frame) -> tuple[str, ...]:
        """Return the texts of the argument with the most words."""
        every = [self.texts.of(node, frame) for node in nodes]
        return max(every, key=lambda texts: max(map(words_of, texts)), default=())

    def _message_nodes(self, call: ast.Call, frame: Frame) -> list[tuple[list[ast.expr], Frame]]:
        """Return the expressions that may be an error's message, and where they stand."""
        if own := self._class_of(call.func, frame):
            return self._of_own_class(*own, call, frame)
        return [(_arguments(call), frame)]

    def _of_own_class(
        self, module: Module, cls: ast.ClassDef, call: ast.Call, frame: Frame
    ) -> list[tuple[list[ast.expr], Frame]]:
        methods = {it.name: it for it in cls.body if isinstance(it, FUNCTIONS)}
        if text := methods.get("__str__"):
            return [([it], Frame(module, text)) for it in returned(text)]
        if init := methods.get("__init__"):
            given = self.texts.arguments(call, init, frame, module, is_method=True)
            inner = frame.inner(module, init, given)
            calls = [it for it in ast.walk(init) if isinstance(it, ast.Call)]
            return [(_arguments(it), inner) for it in calls if ast.unparse(it.func) == "super().__init__"]
        for base in cls.bases:
            if found := self._class_of(base, Frame(module)):
                return self._of_own_class(*found, call, frame)
        return [(_arguments(call), frame)]

    def _from_callers(self, call: ast.Call, frame: Frame) -> list[str]:
        """Return the messages that callers hand to the function that raises them."""
        function = frame.function
        if function is None or frame.depth >= MAX_CALLERS:
            return []
        name, found = getattr(function, "name", ""), list[str]()
        is_method = isinstance(frame.module.parents.get(function), ast.ClassDef)
        for module, caller in self.source.calls.get(name, []):
            around = next((it for it in module.holders(caller) if isinstance(it, FUNCTIONS)), None)
            outer = Frame(module, around, {}, frame.depth + 1)
            if not any(inner.function is function for inner in self.texts.called(caller, outer)):
                continue
            given = self.texts.arguments(caller, function, outer, frame.module, is_method=is_method)
            inner = Frame(frame.module, function, given, frame.depth + 1)
            found += self._messages(call, inner, may_ask_callers=True)
        return list(dict.fromkeys(found))


def _arguments(call: ast.Call) -> list[ast.expr]:
    """Return the arguments of an error's class that may be its message; an OSError has its number in front."""
    named = [it.value for it in call.keywords if it.arg in ("description", "message", "detail")]
    return named or [it for it in call.args if not isinstance(it, ast.Starred)]


def tidy(text: str) -> str:
    """Return a message in one line; several unknown values in a row are one."""
    return re.sub(rf"{UNKNOWN}(\s*{UNKNOWN})+", UNKNOWN, " ".join(text.split()))


def complete_ones(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the messages without those of which others say more: what to do, instead of nothing or ``…``."""
    every = tuple(texts)
    longer = {
        it: [other for other in every if other != it and other.startswith(it.rstrip(f"{UNKNOWN} "))] for it in every
    }
    return tuple(it for it in every if not longer[it] or not it.endswith((".", f". {UNKNOWN}")))
