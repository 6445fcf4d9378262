"""One config file as its syntax tree shows it: what it sets, what it reads, which files it inherits from.

Nothing is executed here.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from mlcls.config.expressions import BASE, PLACEHOLDER, KeyPath, base_path, names_in, statements, target_path
from mlcls.errors import ConfigError, did_you_mean

_MMENGINE = ('mmengine', 'mmengine.config')  # of which configs import read_base and Config
#: Methods that change a list or dict in place.
_CHANGES = {'append', 'clear', 'extend', 'insert', 'merge', 'pop', 'remove', 'reverse', 'setdefault', 'update'}


@dataclass(frozen=True)
class Place:
    """Where something is set: a file and a line, or the words ``--cfg-options``."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f'{self.file}:{self.line}'


class Setting(NamedTuple):
    """One statement that sets a key: ``model = dict(...)``, ``model.head.thr = .3``, ``model.update(...)``."""

    path: KeyPath
    value: ast.expr
    line: int


class Base(NamedTuple):
    """A file that another inherits from, and the line that says so."""

    path: Path
    line: int


def absolute(path: Path) -> Path:
    """An absolute path without '..'; links are left, since base files are looked for beside them as mmengine does."""
    return Path(os.path.abspath(path))


def shown(path: Path) -> str:
    """A path as a person would type it: relative to the working directory where it lies inside it."""
    cwd = Path.cwd()
    return str(path.relative_to(cwd) if path.is_relative_to(cwd) else path)


class SourceFile:
    """The syntax of one config file.

    Args:
        path: A ``.py`` file.

    Attributes:
        settings: Statements that set keys, in order.
        bases: Files that it inherits from, in order.
        style: How it inherits: ``'text'`` (``_base_ = ...``), ``'python'`` (``with read_base()``), or None.
        imports_parts: It imports something that is not Python's own, such as classes to name as types.
        assigned: Name -> line of its last assignment.
        other_names: Names bound by imports, loops, ``with``, functions and classes; never config keys.
        reads: Names that its code reads.
        base_reads: Names that it reads from its bases as ``_base_.name`` or ``{{_base_.name}}``.

    Raises:
        ConfigError: It cannot be read or parsed.
    """

    def __init__(self, path: Path) -> None:
        self.path = absolute(path)
        self.shown = shown(self.path)
        try:
            text = self.path.read_text(encoding='utf-8')
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f'{self.shown}: cannot be read: {error}') from error
        try:
            self.tree = ast.parse(text)
            compile(self.tree, self.shown, 'exec')  # finds a keyword given twice, which parsing does not
        except SyntaxError as error:
            code = (error.text or '').strip()
            raise ConfigError(f'{self.shown}:{error.lineno}: {error.msg}' + (f' ({code})' if code else '')) from error
        except ValueError as error:  # null bytes
            raise ConfigError(f'{self.shown}: {error}') from error
        self.settings: list[Setting] = []
        self.bases: list[Base] = []
        self.style: Literal['text', 'python'] | None = None
        self.imports_parts = False
        self.assigned: dict[str, int] = {}
        self.other_names: set[str] = set()
        self._base_imports: set[ast.stmt] = set()
        self._changed: set[ast.AST] = set()  # names that are only changed in place where they stand
        for statement in statements(self.tree.body):
            self._read(statement)
        self.reads = {
            node.id
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node not in self._changed
        }
        self._refuse_quoted_references()
        self.base_reads = {match.split('.')[0] for match in PLACEHOLDER.findall(text)}
        self.base_reads.update(str(path[0]) for path in map(base_path, ast.walk(self.tree)) if path)

    def __repr__(self) -> str:
        return f'SourceFile({self.shown})'

    def place(self, line: int | None = None) -> Place:
        """A line of this file."""
        return Place(self.shown, line)

    def _read(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Assign):
            for target in statement.targets:
                self._assign(target, statement.value, statement.lineno)
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            self._assign(statement.target, statement.value, statement.lineno)
        elif isinstance(statement, ast.AugAssign):
            self._assign(statement.target, statement, statement.lineno)
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            self._call(statement.value)
        elif isinstance(statement, (ast.Import, ast.ImportFrom)):
            self._import(statement)
        elif isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            self.other_names.add(statement.name)
        elif isinstance(statement, (ast.For, ast.AsyncFor)):
            self.other_names.update(names_in(statement.target))
        elif isinstance(statement, ast.With):
            for item in statement.items:
                if item.optional_vars is not None:
                    self.other_names.update(names_in(item.optional_vars))
            if _is_read_base(statement):
                self.style = 'python'
                self._base_imports.update(statement.body)
                self.bases += [base for node in statement.body if (base := self._imported_base(node))]

    def _import(self, statement: ast.Import | ast.ImportFrom) -> None:
        if statement in self._base_imports:
            return
        self.other_names.update((name.asname or name.name).split('.')[0] for name in statement.names)
        modules = [name.name for name in statement.names]
        if isinstance(statement, ast.ImportFrom):
            modules = ['.' if statement.level else statement.module or '']
        if any(module.split('.')[0] not in sys.stdlib_module_names and module not in _MMENGINE for module in modules):
            self.imports_parts = True

    def _assign(self, target: ast.expr, value: ast.AST, line: int) -> None:
        if isinstance(target, (ast.Tuple, ast.List)):
            values = value.elts if isinstance(value, (ast.Tuple, ast.List)) else []
            same = len(values) == len(target.elts)
            for position, part in enumerate(target.elts):
                self._assign(part, values[position] if same else value, line)
            return
        path = target_path(target)
        if path == (BASE,):
            self.style = 'text'
            self.bases += self._base_files(value, line)
        elif path:
            # `x += [...]` changes what was set before: its value cannot be followed.
            expression = value if isinstance(value, ast.expr) else ast.Constant(None)
            self.settings.append(Setting(path, expression, line))
            self._mark(target, path, line)

    def _mark(self, target: ast.expr, path: KeyPath, line: int) -> None:
        """Remember that the name at the root of ``target`` is assigned or changed, not read, here."""
        self.assigned[str(path[0])] = line
        self._changed.update(node for node in ast.walk(target) if isinstance(node, ast.Name) and node.id == path[0])

    def _call(self, call: ast.Call) -> None:
        """``model.update(...)`` and ``model.merge(...)`` of Python style set keys of ``model``."""
        if not isinstance(call.func, ast.Attribute) or call.func.attr not in _CHANGES:
            return
        path = target_path(call.func.value)
        if not path or path[0] == BASE:
            return
        self._mark(call.func.value, path, call.lineno)
        if call.func.attr in ('update', 'merge') and (call.args or call.keywords):
            value = call.args[0] if call.args else ast.Call(ast.Name('dict', ast.Load()), [], call.keywords)
            self.settings.append(Setting(path, value, call.lineno))

    def _refuse_quoted_references(self) -> None:
        """Raise at a string that holds ``{{_base_.name}}``: mmengine would leave a mark of its own in it."""
        docstrings = {node.value for node in ast.walk(self.tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(self.tree):
            if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or node in docstrings:
                continue
            if match := PLACEHOLDER.search(node.value):
                raise ConfigError(
                    f'{self.place(node.lineno)}: {match[0]} inside quotes is not replaced; write '
                    f'{BASE}.{match[1]} without quotes'
                )

    def _base_files(self, value: ast.AST, line: int) -> list[Base]:
        nodes = value.elts if isinstance(value, (ast.List, ast.Tuple)) else [value]
        bases = []
        for node in nodes:
            if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
                continue
            name = self._fill_in(node.value)
            # 'package::file' and environment variables are resolved by mmengine alone.
            if '::' not in name and '{{' not in name:
                bases.append(self._base(self.path.parent / name, node.lineno))
        return bases

    def _fill_in(self, text: str) -> str:
        values = dict(
            fileDirname=str(self.path.parent),
            fileBasename=self.path.name,
            fileBasenameNoExtension=self.path.stem,
            fileExtname=self.path.suffix,
        )
        return re.sub(r'\{\{\s*(\w+)\s*\}\}', lambda match: values.get(match[1], match[0]), text)

    def _imported_base(self, node: ast.stmt) -> Base | None:
        if not isinstance(node, ast.ImportFrom) or not node.level or not node.module:
            return None  # absolute imports are resolved by mmengine alone
        folder = self.path.parent
        for _ in range(node.level - 1):
            folder = folder.parent
        return self._base(folder / (node.module.replace('.', '/') + '.py'), node.lineno)

    def _base(self, path: Path, line: int) -> Base:
        where = f'{self.place(line)}: base file {shown(absolute(path))}'
        if path.suffix != '.py':
            raise ConfigError(f'{where}: a base file must be a .py file')
        if not path.is_file():
            raise ConfigError(f'{where} does not exist{near_file(path)}')
        return Base(absolute(path), line)


def near_file(path: Path) -> str:
    """The end of a message about a missing file: the nearest ``.py`` file of its folder."""
    if not path.parent.is_dir():
        return f"; there is no folder '{shown(absolute(path.parent))}'"
    return did_you_mean(path.name, (file.name for file in path.parent.glob('*.py')))


def _is_read_base(statement: ast.With) -> bool:
    call = statement.items[0].context_expr
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == 'read_base'
