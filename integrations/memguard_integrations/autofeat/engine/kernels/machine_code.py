"""Machine code of the kernels, made by numba once for a kind of processor, and loaded from the disk without it.

To import numba and have it find what it compiled before takes as long as all the rest of a small fit. So its code is
stripped of what calls it from Python, and kept as an object file beside the bytecode; LLVM's own loader, a part of
numba's, gives the addresses. A file gets its name only after another process has loaded it and computed with it what
numba computes. Whatever is not as it is known to be (another numba, a folder that cannot be written to, code that needs
more than the C library's mathematics) leads back to numba.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from memguard_integrations.autofeat.engine.kernels import trial

__all__ = ["functions"]

_log: Final = logging.getLogger("memguard.autofeat")

_HERE: Final = Path(__file__).parent
_SOURCES: Final = (_HERE / "compiled.py", _HERE / "operations.py", Path(__file__))
# The kernels as they are called: where a result goes, where an error, and their arguments; they return a status.
_WHOLE, _NUMBER, _AT = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p
_ARGUMENTS: Final[dict[str, Sequence[Any]]] = {
    "candidate": (_WHOLE, _AT, _AT, _WHOLE, _NUMBER, _NUMBER, _AT, _AT),
    "against": (_AT, _WHOLE, _WHOLE, _AT, _WHOLE, _AT, _AT, _WHOLE, _AT, _AT),
    "profile": (_AT, _WHOLE, _AT),
}
_PREFIX: Final = "memguard_"
# Counts down what an array's owner is held by; an array at an address has none, so that it is never called.
_NEVER_CALLED: Final = "NRT_MemInfo_call_dtor"
_KEPT_FILES: Final = 8
_CHECK_TIMEOUT_S: Final = 120
# Set for the process that tries a file.
_ON_TRIAL: Final = "MEMGUARD_AUTOFEAT_KERNELS_ON_TRIAL"


def functions() -> dict[str, Callable[..., int]] | None:
    """Return the kernels as functions of addresses and lengths; ``None`` where numba itself is to be used."""
    try:
        on_trial = os.environ.get(_ON_TRIAL)
        if on_trial is not None:
            return _loaded(Path(on_trial))
        key = _key()
        for folder in _folders():
            found = _loaded(folder / f"kernels-{key}.o")
            if found is not None:
                return found
        return _made(key)
    except Exception as error:  # noqa: BLE001 - a numba or an LLVM that is not known: there is another way
        _log.info("the kernels are compiled in each process: %s", error)
        return None


def _key() -> str:
    """Return what the code depends on: sources, versions, processor, settings."""
    import llvmlite.binding as llvm  # noqa: PLC0415

    told = [
        *(path.read_text() for path in _SOURCES),
        version("numba"),
        version("llvmlite"),
        sys.version,
        llvm.get_process_triple(),
        llvm.get_host_cpu_name(),
        llvm.get_host_cpu_features().flatten(),
        *(f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("NUMBA_")),
    ]
    return hashlib.sha256("\0".join(told).encode()).hexdigest()[:32]


def _folders() -> Iterator[Path]:
    """Yield where files may be: beside the bytecode, and where the user keeps what can be made again."""
    yield _HERE / "__pycache__"
    yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "memguard"


def _loaded(path: Path) -> dict[str, Callable[..., int]] | None:
    try:
        head, _, code = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    known = json.loads(head)
    if hashlib.sha256(code).hexdigest() != known["sha256"]:
        return None
    return _linked(code, known["needs"])


# Code stays loaded for as long as the process lives: functions point into it.
_engines: Final[list[Any]] = []


def _linked(code: bytes, needs: Sequence[str]) -> dict[str, Callable[..., int]] | None:
    import llvmlite.binding as llvm  # noqa: PLC0415

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    process = ctypes.CDLL(None)
    for name in needs:
        if llvm.address_of_symbol(name) is None:
            # What is nowhere raises here; LLVM would end the process.
            known = process.abort if name == _NEVER_CALLED else getattr(process, name)
            llvm.add_symbol(name, ctypes.cast(known, ctypes.c_void_p).value)
    machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    return {name: _function(name, engine.get_function_address(_PREFIX + name)) for name in _ARGUMENTS}


def _made(key: str) -> dict[str, Callable[..., int]]:
    """Have numba compile for this process, and keep what came of it for others."""
    from memguard_integrations.autofeat.engine.kernels import compiled  # noqa: PLC0415 - loads numba

    kernels = compiled.for_addresses()
    _engines.append(kernels)
    own = {
        name: _function(name, each.library.get_pointer_to_function(each.symbol))
        for name, each in kernels.items()
    }
    try:
        _keep(key, kernels, own)
    except Exception as error:  # noqa: BLE001 - a numba or an LLVM that is not known: others compile too
        _log.info("the kernels' machine code is not kept: %s", error)
    return own


def _keep(key: str, kernels: Mapping[str, Any], own: dict[str, Callable[..., int]]) -> None:
    """Write a file in the first folder that takes it.

    Raises:
        RuntimeError: the code cannot be kept, or no folder can be written to.
    """
    code, needs = _object_code(kernels)
    head = json.dumps({"sha256": hashlib.sha256(code).hexdigest(), "needs": needs}).encode()
    expected = trial.told(own)
    for folder in _folders():
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            _write(folder / f"kernels-{key}.o", head + b"\n" + code, expected)
            return
    raise RuntimeError("there is no folder to keep it in")


def _function(name: str, address: int) -> Callable[..., int]:
    return ctypes.CFUNCTYPE(ctypes.c_int32, _AT, _AT, *_ARGUMENTS[name])(address)


def _object_code(kernels: Mapping[str, Any]) -> tuple[bytes, list[str]]:
    """Return the kernels as one object file, and the names of what it calls.

    Raises:
        RuntimeError: it calls more than mathematics.
    """
    import llvmlite.binding as llvm  # noqa: PLC0415

    whole, codegen = None, None
    for name, kernel in kernels.items():
        codegen = kernel.library.codegen
        module = _stripped(llvm.parse_bitcode(kernel.library._final_module.as_bitcode()), kernel.symbol, name)
        if whole is None:
            whole = module
        else:
            whole.link_in(module)
    assert whole is not None
    assert codegen is not None
    needs = [each.name for each in (*whole.functions, *whole.global_variables) if each.is_declaration]
    needs = [name for name in needs if not name.startswith("llvm.")]
    if strange := [
        name for name in needs if name.startswith(("Py", "NRT_", "numba_")) and name != _NEVER_CALLED
    ]:
        raise RuntimeError(f"the kernels call {', '.join(strange)}")
    mathematics = ["expf", "logf", "sinf", "cosf", "exp2", "sqrtf", "memset", "memcpy"]
    return codegen._tm.emit_object(whole), sorted({*needs, *mathematics})


def _stripped(module: Any, symbol: str, name: str) -> Any:
    """Leave one function in a module, under its short name, and what it calls."""
    import llvmlite.binding as llvm  # noqa: PLC0415

    for each in module.functions:
        if each.is_declaration:
            continue
        if each.name == symbol:
            each.name = _PREFIX + name
        else:
            each.linkage = "internal"
    for each in module.global_variables:
        if not each.is_declaration:
            each.linkage = "internal"
    machine = llvm.Target.from_default_triple().create_target_machine()
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options()))
    return module


def _write(path: Path, content: bytes, expected: str) -> None:
    """Write a file, have it tried, and give it its name.

    Raises:
        OSError: the folder cannot be written to.
        RuntimeError: another process computes something else with it.
    """
    descriptor, made = tempfile.mkstemp(dir=path.parent, prefix=".kernels-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o644)  # who else uses this installation may read it, as he may the sources
            file.write(content)
        _try(made, expected)
        os.replace(made, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(made)
    _sweep(path.parent)


def _sweep(folder: Path) -> None:
    """Remove all but the newest files, and what was left by processes that were killed while they made one."""
    files = sorted(folder.glob("kernels-*.o"), key=lambda each: each.stat().st_mtime)
    left = (
        each
        for each in folder.glob(".kernels-*")
        if time.time() - each.stat().st_mtime > 2 * _CHECK_TIMEOUT_S
    )
    for each in (*files[:-_KEPT_FILES], *left):
        each.unlink(missing_ok=True)


_TRIAL: Final = """
import sys
from memguard_integrations.autofeat.engine.kernels import machine_code, trial
functions = machine_code.functions()
sys.exit(3) if functions is None else print(trial.told(functions))
"""


def _try(path: str, expected: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _TRIAL],
        env={**os.environ, _ON_TRIAL: path, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_CHECK_TIMEOUT_S,
        check=False,
    )
    if done.returncode or done.stdout.strip() != expected:
        raise RuntimeError(f"what was made is not what numba has: its trial ended with {done.returncode}")
