"""Load every architecture of timm with the zoo and with timm itself, and compare all of it bit for bit.

    python tools/check_timm_loading.py OUT.jsonl [--only GLOB] [--limit-params N] [--limit-gmacs N] [--chunk N]

Each architecture is given reproducible values in a safetensors file. timm's side is `create_model` and
`load_state_dict(strict=True)`; ours is `load_network`. Compared are names, types and values of every parameter and
buffer, saved or not, every plain attribute that holds a tensor, and the output of one forward pass. Then both load the
file again with one input channel and 7 classes, timm through its own `pretrained=True`; all but the new classifier
must agree. Last, timm's own renaming of old files must leave this one as it is.

Smallest first, one JSON line each. What OUT.jsonl already holds is not done again, so a run may be broken off. Each
chunk of architectures is a process of its own, which gives its memory back. One architecture takes about eight bytes
of memory per parameter.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import fnmatch
import json
import os
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final
from unittest import mock

import timm
import timm.layers.weight_init
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from zoo_plugins.backbones.timm import catalogue

import zoo
from zoo.errors import IntegrityError
from zoo.models.load import load_network
from zoo.models.translate import translate

#: Where files go while they are compared: memory, where the system has it.
SHARED: Final = Path("/dev/shm")
#: Larger files go to the disk.
MOST_SHARED: Final = 2 * 10**9
CLASSES: Final = 7

_NOISE: Final = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0))


@contextlib.contextmanager
def without_initialisation() -> Iterator[None]:
    """timm's side need not draw numbers that its `load_state_dict` overwrites."""

    def leave(tensor: Tensor, *_: Any, **__: Any) -> Tensor:
        return tensor

    with contextlib.ExitStack() as stack:
        for name in dir(nn.init):
            if name.endswith("_") and not name.startswith("_"):
                stack.enter_context(mock.patch.object(nn.init, name, leave))
        stack.enter_context(mock.patch.object(timm.layers.weight_init, "_trunc_normal_", leave))
        yield


def values(name: str, like: Tensor) -> Tensor:
    """Numbers for the tensor `name` that keep a forward pass finite; whole numbers stay, for they may be indices."""
    leaf = name.rpartition(".")[2]
    start = zlib.crc32(name.encode()) % len(_NOISE)
    if leaf == "num_batches_tracked":
        return torch.tensor(start)
    if not like.is_floating_point():
        return like.detach().clone()
    count = like.numel()
    noise = _NOISE.repeat((start + count) // len(_NOISE) + 1)[start : start + count].reshape(like.shape)
    if leaf == "running_var":
        return noise.abs() + 0.5
    if like.ndim < 2:
        return 0.1 * noise + (leaf == "weight")
    return noise / max(1, like[0].numel()) ** 0.5


def made(module: nn.Module) -> dict[str, Tensor]:
    """A state dict of `values`; what a network has under several names (coat) is the same under all of them."""
    first: dict[int, str] = {}
    tensors = module.state_dict(keep_vars=True).items()
    return {name: values(first.setdefault(id(tensor), name), tensor) for name, tensor in tensors}


def held(module: nn.Module) -> dict[str, Tensor]:
    """Every tensor of a module: parameters, buffers saved or not, and plain attributes."""
    found: dict[str, Tensor] = {}
    for path, child in module.named_modules():
        for table in (child._parameters, child._buffers, vars(child)):
            for key, value in table.items():
                if not key.startswith("_"):
                    collect(f"{path}.{key}", value, found)
    return found


def collect(name: str, value: Any, found: dict[str, Tensor]) -> None:
    if isinstance(value, Tensor):
        found[name] = value
    elif isinstance(value, dict):
        for key, item in value.items():
            collect(f"{name}[{key}]", item, found)
    elif isinstance(value, (list, tuple)):
        for key, item in enumerate(value):
            collect(f"{name}[{key}]", item, found)


def differences(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> list[str]:
    """What is not the same, by name."""
    found = [f"only timm has {name}" for name in theirs if name not in ours]
    found += [f"only we have {name}" for name in ours if name not in theirs]
    for name in ours.keys() & theirs.keys():
        a, b = ours[name], theirs[name]
        if (a.shape, a.dtype, a.device) != (b.shape, b.dtype, b.device):
            found.append(f"{name}: {list(a.shape)} {a.dtype} {a.device}, in timm {list(b.shape)} {b.dtype} {b.device}")
        elif not torch.equal(a, b):
            found.append(f"{name}: other values")
        elif isinstance(b, nn.Parameter) and not (isinstance(a, nn.Parameter) and a.requires_grad):
            found.append(f"{name}: cannot be trained")
        elif not a.is_contiguous():
            found.append(f"{name}: not contiguous")
    return sorted(found)


def check(spec: zoo.Backbone, folder: Path, limit_gmacs: float) -> dict[str, Any]:
    """One architecture's line."""
    path = folder / f"{spec.name}.safetensors"
    record: dict[str, Any] = {"name": spec.name, "params": spec.params}
    try:
        start = time.perf_counter()
        with without_initialisation():
            theirs = timm.create_model(spec.name)
        save_file(made(theirs), path)
        theirs.load_state_dict(load_file(path), strict=True)
        theirs.eval()
        record["timm_s"] = round(time.perf_counter() - start, 3)
        start = time.perf_counter()
        network = load_network(spec, None, path)
        record["zoo_s"] = round(time.perf_counter() - start, 3)
        ours = network.module
        record["differences"] = differences(held(ours), held(theirs))[:10]
        record["output"] = compare_outputs(ours, theirs, spec, limit_gmacs)
        record["filter"] = check_filter(spec, theirs, path)
        del ours, network, theirs
        record["adapted"] = check_adapted(spec, path)
    except Exception as error:
        record["error"] = f"{type(error).__name__}: {error}"
    finally:
        path.unlink(missing_ok=True)
    return record


def compare_outputs(ours: nn.Module, theirs: nn.Module, spec: zoo.Backbone, limit_gmacs: float) -> str:
    """ "equal", "within X" (of the largest output), or why it was not compared."""
    if spec.gmacs is None or spec.gmacs > limit_gmacs:
        return "not compared: too much work"
    if spec.build != f"timm.models:{spec.name}":
        return "not compared: timm has no classifier here"
    # The last bit of a product depends on where its matrix lies; a mapped file puts it where it stands in the file.
    for tensor in (*ours.parameters(), *ours.buffers()):
        tensor.data = tensor.data.clone()
    x = torch.randn(2, *theirs.pretrained_cfg["input_size"], generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        a, b = ours(x), theirs(x)
    if isinstance(b, (tuple, list)):
        a, b = torch.cat([part.flatten() for part in a]), torch.cat([part.flatten() for part in b])
    if not torch.isfinite(b).all():
        return "not finite in timm"
    return "equal" if torch.equal(a, b) else f"within {((a - b).abs().max() / b.abs().max()).item():.1e}"


def check_filter(spec: zoo.Backbone, module: nn.Module, path: Path) -> str:
    """Whether what translates old files leaves a new one alone."""
    if spec.translate is None:
        return "none"
    before = load_file(path)
    found = differences(translate(spec, before, module), before)
    return f"changes {found[:3]}" if found else "same"


def check_adapted(spec: zoo.Backbone, path: Path) -> str:
    """One channel and other classes, against timm's own road."""
    if spec.build != f"timm.models:{spec.name}":
        return "not compared: timm has no classifier here"
    try:
        with without_initialisation():
            theirs = timm.create_model(
                spec.name,
                pretrained=True,
                pretrained_cfg_overlay={"file": str(path)},
                in_chans=1,
                num_classes=CLASSES,
            )
    except Exception as error:
        return f"timm fails: {type(error).__name__}: {error}"
    try:
        network = load_network(spec, None, path, in_chans=1, num_classes=CLASSES)
    except IntegrityError as error:
        return f"refused: {str(error)[:300]}"
    heads = tuple(f"{name}." for name in network.head_names)

    def body(module: nn.Module) -> dict[str, Tensor]:
        return {name: t for name, t in held(module).items() if not name.startswith(heads)}

    found = differences(body(network.module), body(theirs))
    shapes = {name: t.shape for name, t in network.module.state_dict().items()}
    found += [f"{name}: shape" for name, t in theirs.state_dict().items() if shapes.get(name) != t.shape]
    return "equal" if not found else "; ".join(found[:5])


def work(names: Iterable[str], out: Path, limit_gmacs: float) -> None:
    """A chunk, in this process."""
    torch.set_num_threads(1)
    specs = {spec.name: spec for spec in catalogue.read().backbones()}
    for name in names:
        shared = SHARED.is_dir() and specs[name].params * 4 < MOST_SHARED
        with tempfile.TemporaryDirectory(dir=SHARED if shared else None) as folder:
            record = check(specs[name], Path(folder), limit_gmacs)
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def read(out: Path) -> dict[str, dict[str, Any]]:
    """The lines there are, by name; the last one counts."""
    lines = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
    return {record["name"]: record for record in map(json.loads, lines)}


def chunks(specs: list[zoo.Backbone], most: int) -> Iterator[list[str]]:
    """Names, at most `most` and not much more than a billion parameters in one process."""
    names: list[str] = []
    params = 0
    for spec in specs:
        names.append(spec.name)
        params += spec.params
        if len(names) >= most or params > 10**9:
            yield names
            names, params = [], 0
    if names:
        yield names


def trouble(record: dict[str, Any]) -> list[str]:
    """What is wrong with a line; what only could not be compared is not."""
    found = [record["error"]] if "error" in record else []
    found += record.get("differences", [])
    output, adapted = record.get("output", ""), record.get("adapted", "")
    if output.startswith("within"):
        found.append(f"output {output}")
    if adapted and adapted != "equal" and not adapted.startswith(("not compared", "timm fails")):
        found.append(f"adapted: {adapted}")
    if record.get("filter", "").startswith("changes"):
        found.append(f"filter {record['filter']}")
    return found


def summarise(records: dict[str, dict[str, Any]]) -> None:
    """The counts, and every trouble."""
    for key in ("output", "filter", "adapted"):
        kinds = collections.Counter(str(r.get(key, "absent")).partition(":")[0][:24] for r in records.values())
        print(f"{key}: " + ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(12)))
    wrong = {name: found for name, record in records.items() if (found := trouble(record))}
    print(
        f"{len(records)} architectures, {sum(r['params'] for r in records.values()):,} parameters; {len(wrong)} differ"
    )
    for name, found in wrong.items():
        print(f"  {name}: {found[0][:200]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="JSON lines; kept and added to")
    parser.add_argument("--only", default="*", metavar="GLOB", help="architectures")
    parser.add_argument("--limit-params", type=float, default=1e9, help="leave out larger ones")
    parser.add_argument("--limit-gmacs", type=float, default=20, help="no forward pass above this much work")
    parser.add_argument("--chunk", type=int, default=25, help="architectures in one process")
    parser.add_argument("--work", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work, arguments.out, arguments.limit_gmacs)
        return
    known = [spec for spec in catalogue.read().backbones() if fnmatch.fnmatch(spec.name, arguments.only)]
    done = read(arguments.out)
    todo = [spec for spec in known if spec.name not in done and spec.params <= arguments.limit_params]
    todo.sort(key=lambda spec: spec.params)
    command = [sys.executable, __file__, str(arguments.out), "--limit-gmacs", str(arguments.limit_gmacs), "--work"]
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "ZOO_HOME": home, "ZOO_OFFLINE": "1"}
        for names in chunks(todo, arguments.chunk):
            left = names
            while left:
                code = subprocess.run([*command, *left], env=environment).returncode
                done = read(arguments.out)
                left = [name for name in left if name not in done]
                if left:  # the process died of the first one
                    with arguments.out.open("a", encoding="utf-8") as file:
                        record = {"name": left[0], "params": 0, "error": f"the process ended with {code}"}
                        file.write(json.dumps(record) + "\n")
                    left = left[1:]
            print(f"{len(done):5} done, last {names[-1]}", file=sys.stderr, flush=True)
    left_out = sum(spec.params > arguments.limit_params for spec in known)
    names = {spec.name for spec in known}
    summarise({name: record for name, record in read(arguments.out).items() if name in names})
    print(f"{left_out} have more than {arguments.limit_params:g} parameters and were left out")


if __name__ == "__main__":
    main()
