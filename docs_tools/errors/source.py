"""Source code of the package as syntax trees: modules, functions, classes, and what a name in them means."""

import ast
import gc
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "luna_pipeline"
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_RAISED_IN_C = re.compile(r'PyErr_SetString\(PyExc_(\w+), ("[^"]+")\)')
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(eq=False)
class Module:
    """One module.

    Attributes:
        name: Such as ``luna_pipeline.core.ct.geometry``.
        tree: Its syntax tree.
        parents: The node that holds each node.
        nodes: Definitions, calls and raise statements, in their order.
        names: What the module defines: functions, classes and values of constants.
        imports: (module, name) of each imported name; an empty name for a module.
    """

    name: str
    tree: ast.Module
    parents: dict[ast.AST, ast.AST] = field(default_factory=dict)
    nodes: list[ast.AST] = field(default_factory=list)
    names: dict[str, ast.AST] = field(default_factory=dict)
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        left: list[ast.AST] = [self.tree]
        while left:
            node = left.pop()
            for child in ast.iter_child_nodes(node):
                self.parents[child] = node
                left.append(child)
            if isinstance(node, Definition | ast.Call | ast.Raise):
                self.nodes.append(node)
            elif isinstance(node, ast.ImportFrom) and node.module:
                self.imports |= {it.asname or it.name: (node.module, it.name) for it in node.names}
        self.nodes.sort(key=lambda node: (node.lineno, node.col_offset))  # type: ignore[attr-defined]
        for node in self.tree.body:
            if isinstance(node, Definition):
                self.names[node.name] = node
            elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                self.names |= {it.id: node.value for it in targets if isinstance(it, ast.Name)}

    def ancestors(self, node: ast.AST) -> Iterator[ast.AST]:
        """Yield the nodes around a node, the innermost first."""
        while node in self.parents:
            node = self.parents[node]
            yield node

    def holders(self, node: ast.AST) -> Iterator[Definition]:
        """Yield the functions and classes around a node, the innermost first."""
        return (it for it in self.ancestors(node) if isinstance(it, Definition))

    def name_of(self, node: ast.AST) -> str:
        """Return the name of a function or class in its module, such as ``VoxelGrid.inverse``."""
        return ".".join(it.name for it in [*reversed(list(self.holders(node))), node] if isinstance(it, Definition))


@dataclass(eq=False)
class Source:
    """All modules of the package."""

    modules: dict[str, Module]

    @classmethod
    def read(cls, folder: Path = ROOT / PACKAGE) -> "Source":
        """Read all modules below a package's folder; of those in C what they raise."""
        modules = {}
        # Collecting garbage among half a million nodes takes as long as reading them.
        gc.disable()
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder.parent).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            modules[name] = Module(name, ast.parse(path.read_text()))
        for path in folder.rglob("*.c"):
            name = ".".join(path.relative_to(folder.parent).with_suffix("").parts)
            raised = (f"raise {kind}({text})" for kind, text in _RAISED_IN_C.findall(path.read_text()))
            modules[name] = Module(name, ast.parse("\n".join(raised)))
        gc.enable()
        return cls(modules)

    def meaning(self, name: str, module: Module) -> tuple[Module, ast.AST] | None:
        """Return what a module's name means in the package: a definition or a constant's value, and where it is."""
        if name in module.names:
            return module, module.names[name]
        origin, original = module.imports.get(name, ("", ""))
        return self.meaning(original, self.modules[origin]) if origin in self.modules else None

    @cached_property
    def methods(self) -> dict[str, list[tuple[Module, ast.ClassDef, ast.AST]]]:
        """Methods of the package's classes, by name."""
        found: dict[str, list[tuple[Module, ast.ClassDef, ast.AST]]] = {}
        for module in self.modules.values():
            for each in (node for node in module.nodes if isinstance(node, ast.ClassDef)):
                for method in (node for node in each.body if isinstance(node, FUNCTIONS)):
                    found.setdefault(method.name, []).append((module, each, method))
        return found

    @cached_property
    def calls(self) -> dict[str, list[tuple[Module, ast.Call]]]:
        """Calls by the last part of the called name."""
        found: dict[str, list[tuple[Module, ast.Call]]] = {}
        for module in self.modules.values():
            for node in module.nodes:
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                    name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                    found.setdefault(name, []).append((module, node))
        return found
