"""From the name of code, `package.module:function`, to the code."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

from zoo.catalog.spec import TARGET
from zoo.errors import PluginError, ZooError


def load(target: str | Callable[..., Any], *, plugin: str = "") -> Any:
    """The object that `target` names; a callable is returned as it is.

    Args:
        target: `"package.module:name"`; the name may hold dots, and a module may answer for it through its own
            `__getattr__` (PEP 562).
        plugin: whose it is, for the error.

    Raises:
        PluginError: the module cannot be imported, or has no such name. The cause is chained.
    """
    if callable(target):
        return target
    owner = f"plugin {plugin!r}: " if plugin else ""
    if not isinstance(target, str) or not TARGET.fullmatch(target):
        raise PluginError(f"{owner}{target!r} does not name code", hint="Write it as package.module:function.")
    module_name, _, path = target.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in path.split("."):
            found = getattr(found, part)
    except ZooError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"{owner}cannot load {target!r}", why=f"{type(error).__name__}: {error}", hint=_advice(error)
        ) from error
    return found


def _advice(error: BaseException) -> str | None:
    if isinstance(error, ModuleNotFoundError) and error.name:
        first = error.name.partition(".")[0]
        return f"The module {(error.name if first in sys.modules else first)!r} is not installed here."
    return None
