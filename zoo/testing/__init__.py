"""Help for testing plugins: the contract they are held to, fixtures, tiny backbones, and a Hub on this machine.

Names are loaded when they are used, so that importing this package imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from zoo.testing.contract import PluginContract, check
    from zoo.testing.findings import ContractError, Finding
    from zoo.testing.hub import FakeHub
    from zoo.testing.offline import no_network
    from zoo.testing.strategy_bench import Given

_HOMES: Final = {
    "ContractError": "zoo.testing.findings",
    "FakeHub": "zoo.testing.hub",
    "Finding": "zoo.testing.findings",
    "Given": "zoo.testing.strategy_bench",
    "PluginContract": "zoo.testing.contract",
    "check": "zoo.testing.contract",
    "no_network": "zoo.testing.offline",
}

__all__ = ["ContractError", "FakeHub", "Finding", "Given", "PluginContract", "check", "no_network"]


def __getattr__(name: str) -> Any:
    if (home := _HOMES.get(name)) is None:
        raise AttributeError(f"module 'zoo.testing' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(home), name)
    return value
