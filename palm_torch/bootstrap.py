"""First code of `palm-torch run`: installs the import hook, then hands over to `palm_torch.attesting.launch`.

Bytecode of the standard library is taken from its usual place alone: a prefix for caches would let it run
from a folder outside of the image, and is refused.

This file is run in a fresh interpreter. Of palm-torch nothing else is loaded before the hook: the hook's own
file is read once, hashed and compiled here, and everything after it comes through the hook.
"""

import os
import sys
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType

HOOK = "palm_torch.hooks.importing"
REFUSED = 2
"""Exit code of what must not begin, as `palm_torch.exit_codes` has it, which is not loaded yet."""


def begin() -> int:
    """Installs the hook, loads this very copy of palm-torch through it, and runs what was asked for."""
    if sys.pycache_prefix is not None:
        sys.stderr.write(
            f"error: bytecode caches lie under {sys.pycache_prefix!r}, where nothing vouches for them: start "
            "Python without PYTHONPYCACHEPREFIX and -X pycache_prefix\n"
        )
        return REFUSED
    package = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 (pathlib is slow to load)
    path = os.path.join(package, "hooks", "importing.py")  # noqa: PTH118 (as above)
    with open(path, "rb") as stream:  # noqa: PTH123 (as above)
        data = stream.read()
    importing = sys.modules[HOOK] = ModuleType(HOOK)
    exec(compile(data, path, "exec"), vars(importing))  # noqa: S102 (the bytes that are hashed below)
    importing.install()
    importing.note_before("palm_torch.bootstrap", __file__)
    importing.note(HOOK, path, data)
    importing.__file__ = path
    _load_package(package)

    from palm_torch import hooks  # noqa: PLC0415 (the hook comes first)
    from palm_torch.attesting import launch  # noqa: PLC0415 (the hook comes first)

    hooks.importing = importing
    code: int = launch.main(sys.argv[1:])
    return code


def _load_package(folder: str) -> None:
    """Loads the package that this file belongs to, whatever `sys.path` says."""
    spec = spec_from_file_location(
        "palm_torch",
        os.path.join(folder, "__init__.py"),  # noqa: PTH118 (as above)
        submodule_search_locations=[folder],
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"palm-torch cannot be loaded from {folder!r}")
    package = sys.modules["palm_torch"] = module_from_spec(spec)
    spec.loader.exec_module(package)


if __name__ == "__main__":
    sys.exit(begin())
