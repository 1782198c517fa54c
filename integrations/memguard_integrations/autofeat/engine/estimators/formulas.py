"""From sympy's expressions to programs, and how a model keeps its formulas without loading sympy.

The order of operations is that of the text which sympy's own printer for numpy writes, for that is what
autofeat compiles. Only this module imports sympy, and only when it compiles or opens formulas.
"""

from __future__ import annotations

import ast
import pickle
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from memguard_integrations.autofeat.engine.estimators.programs import Instruction, Program
from memguard_integrations.autofeat.engine.estimators.symbols import symbol_name

if TYPE_CHECKING:
    import sympy

__all__ = ["StoredFormulas", "compile_formula", "formula_text", "start_symbols"]

_OPERATORS: Final[dict[type[ast.operator], str]] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
    ast.Pow: "pow",
}
_CONSTANTS: Final = {"e": float(np.e), "pi": float(np.pi)}


class StoredFormulas:
    """Formulas by name, opened when first asked for: pickled as bytes, so that loading a model needs no sympy."""

    def __init__(self, formulas: Mapping[str, sympy.Expr]) -> None:
        self._formulas: dict[str, Any] | None = dict(formulas)
        self._packed = b""

    @property
    def formulas(self) -> dict[str, sympy.Expr]:
        """Return the expressions by the names of their columns; the same dictionary each time."""
        if self._formulas is None:
            self._formulas = pickle.loads(self._packed)
        return self._formulas

    def __getstate__(self) -> bytes:
        return self._packed if self._formulas is None else pickle.dumps(self._formulas)

    def __setstate__(self, packed: bytes) -> None:
        self._formulas, self._packed = None, packed


def compile_formula(formula: sympy.Expr, arguments: Sequence[sympy.Symbol]) -> Program:
    """Compile an expression over some symbols.

    Args:
        formula: what ``engineer_features`` gives for a column.
        arguments: every symbol of it, in the order in which the program is to take them; others may be among them.

    Raises:
        NotImplementedError: for a function that no transformation of autofeat makes.
    """
    names = {symbol.name: f"v{number}" for number, symbol in enumerate(arguments)}
    tree = ast.parse(formula_text(formula, names), mode="eval").body
    code: list[Instruction] = []
    # numba cannot type `abs` of an array, and autofeat then calls the function as it is: with numpy's powers.
    compiled_by_numba = not any(isinstance(node, ast.Name) and node.id == "abs" for node in ast.walk(tree))
    _emit(tree, code, whole_powers=compiled_by_numba)
    return Program(tuple(code), len(arguments))


def formula_text(formula: sympy.Expr, names: Mapping[str, str]) -> str:
    """Return the text that sympy's printer for numpy writes, each symbol under the name given for it.

    Only the printed names differ: the order of the terms is still that of the symbols' own names.
    """
    from sympy.printing.numpy import NumPyPrinter  # noqa: PLC0415 - sympy is loaded by those who compile

    class Printer(NumPyPrinter):  # type: ignore[misc, unused-ignore]
        def _print_Symbol(self, expr: Any) -> str:  # noqa: N802 - sympy calls it by this name
            return names[expr.name]

    return str(Printer({"fully_qualified_modules": False}).doprint(formula))


def _emit(node: ast.expr, code: list[Instruction], *, whole_powers: bool) -> None:
    constant = _constant(node)
    if constant is not None:
        code.append(("const", constant))
    elif isinstance(node, ast.Name):
        code.append(("load", int(node.id[1:])))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        _emit(node.operand, code, whole_powers=whole_powers)
        code.append(("neg", 0))
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 1:
        _emit(node.args[0], code, whole_powers=whole_powers)
        code.append((_function(node.func.id), 0))
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        _emit_binary(node, code, whole_powers=whole_powers)
    else:
        raise NotImplementedError(f"no program for {ast.unparse(node)!r}")


def _emit_binary(node: ast.BinOp, code: list[Instruction], *, whole_powers: bool) -> None:
    exponent = node.right if isinstance(node.op, ast.Pow) and whole_powers else None
    if exponent is not None and _is_whole(exponent):
        _emit(node.left, code, whole_powers=whole_powers)
        code.append(("power", int(_constant(exponent) or 0)))
    elif exponent is not None and _constant(node.left) == 2.0:
        # The compiler behind numba turns pow(2, x) into exp2(x).
        _emit(exponent, code, whole_powers=whole_powers)
        code.append(("exp2", 0))
    else:
        _emit(node.left, code, whole_powers=whole_powers)
        _emit(node.right, code, whole_powers=whole_powers)
        code.append((_OPERATORS[type(node.op)], 0))


def _is_whole(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int) and node.value > 0


def _function(name: str) -> str:
    if name not in {"abs", "exp", "log", "sqrt", "sin", "cos"}:
        raise NotImplementedError(f"no program for the function {name!r}")
    return name


def _constant(node: ast.expr) -> float | None:
    """Return the number that a part without symbols stands for, as Python reckons it; None for other parts."""
    if isinstance(node, ast.Constant):
        return float(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.Name):
        return _CONSTANTS.get(node.id)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _constant(node.operand)
        return None if inner is None else -inner
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        above, below = _constant(node.left), _constant(node.right)
        return None if above is None or below is None else above / below
    return None


def start_symbols(columns: Sequence[str]) -> dict[str, sympy.Expr]:
    """Return the formulas of columns that nothing was engineered from: their symbols."""
    import sympy  # noqa: PLC0415 - see above

    return {
        column: sympy.Symbol(symbol_name(column, position), real=True)
        for position, column in enumerate(columns)
    }
