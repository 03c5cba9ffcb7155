"""What features are filed under: which network, in which state, read where and how.

Two networks share a space only where the same sample gives the same features. So the key holds the code that runs, not
its name alone: a plugin that changes a forward pass without changing a tensor gets a space of its own.
"""

from __future__ import annotations

import functools
import hashlib
import json
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import torch
from torch import Tensor, nn

from zoo.data.fingerprint import of_bytes
from zoo.data.preprocess import describe
from zoo.models.accelerator import Placement
from zoo.models.network import Network
from zoo.models.stages import inside

#: Counts up when extraction changes what a feature is.
VERSION: Final = 3


def space_facts(network: Network, placement: Placement, *, state: str | None = None) -> dict[str, Any]:
    """What features of this network, read this way, depend on, as plain JSON values.

    Args:
        state: `feature_state` of the network where it is known; None = hashed now.
    """
    structure = structure_hash(network)
    # The same tensors can stand behind another forward pass: a module without a name, or one whose code is in no file,
    # is known by itself alone.
    known = network.spec is not None and not network.own and structure is not None
    preprocessing = network.preprocessing
    return {
        "version": VERSION,
        "backbone": network.spec.full_name if known and network.spec else f"module {_token(network)}",
        "structure": structure,
        "options": repr(sorted(network.options.items())),
        "in_chans": network.in_chans,
        "state": state or feature_state(network),
        "head": list(network.head_names),
        "tap": network.tap,
        "preprocessing": describe(preprocessing) if preprocessing else None,
        "assets": {name: of_bytes(content) for name, content in sorted(network.assets.items())},
        "precision": placement.precision,
        "device": placement.device.type,
        "torch": torch.__version__,
    }


def is_private(facts: dict[str, Any]) -> bool:
    """Whether no other process can know the network, so that its features are worth nothing on disk."""
    return str(facts["backbone"]).startswith("module ")


def space_key(facts: dict[str, Any]) -> str:
    """sha256 of the facts, in hex."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def structure_hash(network: Network) -> str | None:
    """sha256 over the layers before the classifier, their settings, and the files that hold their code.

    None where nobody can tell it from another: a layer's code lies in no file (a class typed into a notebook), or is
    not its class's alone (hooks, a `forward` of its own).
    """
    heads = network.head_names
    lines, files = [], set()
    for name, layer in network.module.named_modules():
        if _inside(name, heads):
            continue
        if layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer):
            return None
        kind = type(layer)
        lines.append(f"{name}: {kind.__module__}.{kind.__qualname__}({layer.extra_repr()})")
        for base in kind.__mro__:
            package = base.__module__.partition(".")[0]
            if package in ("torch", "builtins", "typing", "abc"):
                continue
            file = getattr(sys.modules.get(base.__module__), "__file__", None)
            if file is None:
                return None
            files.add((base.__module__, file))
    digest = hashlib.sha256("\n".join(lines).encode())
    for module, file in sorted(files):
        if (content := _code_hash(file)) is None:
            return None
        # The version stands for what the layers call in other files of their package.
        version = getattr(sys.modules.get(module.partition(".")[0]), "__version__", "")
        digest.update(f"\n{module} {version} {content}".encode())
    return digest.hexdigest()


@functools.cache
def _code_hash(file: str) -> str | None:
    """Once a process: what was imported stays what it was when it was imported, whatever the file becomes."""
    try:
        with open(file, "rb") as opened:
            return hashlib.sha256(opened.read()).hexdigest()
    except OSError:
        return None


def feature_state(network: Network) -> str:
    """sha256 over every tensor but the classifier's, which features do not depend on; buffers never saved included."""
    heads = network.head_names
    everything = {**dict(network.named_buffers()), **network.state_dict()}
    tensors = {name: tensor for name, tensor in everything.items() if not _inside(name, heads)}
    return hashlib.sha256(json.dumps(_hash_all(tensors)).encode()).hexdigest()


def state_hash(network: nn.Module) -> str:
    """sha256 over every tensor of the module, names, types and shapes included."""
    return hashlib.sha256(json.dumps(tensor_hashes(network)).encode()).hexdigest()


def tensor_hashes(network: nn.Module) -> dict[str, str]:
    """Tensor name -> sha256 of its type, shape and values."""
    return _hash_all(network.state_dict())


def _hash_all(tensors: dict[str, Tensor]) -> dict[str, str]:
    # hashlib lets go of the interpreter, so threads hash side by side.
    with ThreadPoolExecutor(max(1, min(4, torch.get_num_threads()))) as pool:
        return dict(zip(tensors, pool.map(_hash, tensors.values()), strict=True))


def _hash(tensor: Tensor) -> str:
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
    digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _token(network: Network) -> str:
    """A word that no other module of this process has."""
    token = getattr(network, "_token", None)
    if token is None:
        token = uuid.uuid4().hex
        object.__setattr__(network, "_token", token)
    return token


def _inside(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(inside(name, prefix) for prefix in prefixes)
