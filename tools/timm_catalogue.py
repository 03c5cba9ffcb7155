"""Regenerate the catalogue of timm's architectures and weights that the timm plugin ships.

    python tools/timm_catalogue.py [--results results-imagenet.csv] [--check]

Each architecture is built on torch's `meta` device and run once (about 15 minutes for all). `--results` is the table
of ImageNet accuracies in timm's own repository (folder `results`). `--check` writes nothing and fails when the stored
catalogue is not what the installed timm would give, accuracies aside. The layout is described in
`plugins/backbones/timm/catalogue.py`.
"""

from __future__ import annotations

import argparse
import csv
import functools
import inspect
import json
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any, Final
from unittest import mock

import timm
import timm.models
import timm.models._builder
import torch
from timm.models import get_pretrained_cfg
from timm.models._pretrained import PretrainedCfg
from zoo_plugins.backbones.timm import translate

from zoo.catalog.targets import load
from zoo.testing.facts import observe

PATH: Final = Path(__file__).resolve().parent.parent / "plugins" / "backbones" / "timm" / "catalogue.json"
SCHEMA: Final = 2
#: Keyword arguments worth naming in data files; an architecture lists those that its class takes.
OPTIONS: Final = (
    "img_size", "dynamic_img_size", "pad_type", "output_stride", "global_pool", "drop_rate", "drop_path_rate",
)  # fmt: skip
#: A release file's name ends with the start of its sha256.
HASHED: Final = re.compile(r".*-([0-9a-f]{8,})\.pth")
#: What the parts of a tag say about the training data, in the order in which the parts stand.
DATA: Final = {
    "in1k": "imagenet-1k", "in12k": "imagenet-12k", "in21k": "imagenet-21k", "in22k": "imagenet-22k",
    "inw21k": "imagenet-winter-21k", "laion2b": "laion-2b", "laion400m": "laion-400m", "laiona": "laion-aesthetic",
    "openai": "wit-400m", "datacomp1b": "datacomp-1b", "datacompxl": "datacomp-1b", "dfn2b": "dfn-2b",
    "dfn5b": "dfn-5b", "dfndr2b": "dfndr-2b", "webli": "webli", "lvd142m": "lvd-142m", "lvd1689m": "lvd-1689m",
    "sat493m": "sat-493m", "merged2b": "merged-2b", "yfcc15m": "yfcc-15m", "yfcc100m": "yfcc-100m",
    "ig1b": "instagram-1b", "jft": "jft-300m", "sa1b": "sa-1b", "m38m": "merged-38m", "m30m": "merged-30m",
    "cc12m": "cc-12m", "bamboo": "bamboo", "metaclip_400m": "metaclip-400m", "metaclip_2pt5b": "metaclip-2.5b",
}  # fmt: skip


#: (module, strict) -> the translator, where timm's is local to a function or its loading is not strict.
#: DLA is not strict for the sake of original files, which are on no hub.
SPECIAL: Final[dict[tuple[str, bool], str | None]] = {
    ("crossvit", True): "zoo_plugins.backbones.timm.translate:crossvit",
    ("vision_transformer", False): "zoo_plugins.backbones.timm.translate:siglip_gap",
    ("davit", False): "zoo_plugins.backbones.timm.translate:davit_fl",
    ("dla", False): None,
    ("mobilenetv5", False): "timm.models.mobilenetv5:checkpoint_filter_fn",
}


class Table:
    """Values that repeat, each once; records name them by index."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._index: dict[Hashable, int] = {}

    def add(self, value: Any) -> int:
        key = json.dumps(value)
        if key not in self._index:
            self._index[key] = len(self.values)
            self.values.append(value)
        return self._index[key]


def trained_on(tag: str) -> str | None:
    """The data sets that a tag names, first to last: "in22k_ft_in1k" -> "imagenet-22k, imagenet-1k"; None if none."""
    pattern = "|".join(sorted(map(re.escape, DATA), key=len, reverse=True))
    found = re.findall(rf"(?<![a-z0-9])(?:{pattern})(?![a-z0-9])", tag)
    names = [DATA[part] for part in found]
    return ", ".join(name for index, name in enumerate(names) if name not in names[:index]) or None


def preprocessing(cfg: PretrainedCfg) -> list[Any]:
    """What a `Preprocessing` is made of, in order."""
    return [list(cfg.input_size), list(cfg.mean), list(cfg.std), cfg.interpolation, cfg.crop_pct, cfg.crop_mode]


def built(name: str) -> tuple[str, torch.nn.Module]:
    """Where the builder is, and what it gives on `meta`: timm's own, or ours around an encoder without a classifier."""
    build = f"timm.models:{name}"
    default = get_pretrained_cfg(name)
    with torch.device("meta"):
        module = load(build)(num_classes=default.num_classes)
        if not hasattr(module, "reset_classifier"):
            build = f"zoo_plugins.backbones.timm.encoder:{name}"
            module = load(build)(num_classes=default.num_classes)
    return build, module


def options(module: torch.nn.Module) -> list[str]:
    """Which of `OPTIONS` the architecture's class takes."""
    taken: set[str] = set()
    for kind in type(module).__mro__:
        if "__init__" in vars(kind) and kind is not torch.nn.Module:
            taken |= set(inspect.signature(kind.__init__).parameters)
    return [option for option in OPTIONS if option in taken]


def shapes(module: torch.nn.Module) -> dict[str, torch.Size]:
    """Name and shape of every tensor that a weights file must fill."""
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


def needed(name: str, tag: str, build: str, default: dict[str, torch.Size], default_cfg: PretrainedCfg) -> Any:
    """What the builder must be told so that weights fit, None where nothing: an `img_size`, or {option: value}.

    Raises:
        SystemExit: no option gives what timm itself builds for this tag.
    """
    cfg = get_pretrained_cfg(f"{name}.{tag}")
    with torch.device("meta"):
        theirs = timm.create_model(f"{name}.{tag}", pretrained=False)
        if build.startswith("zoo_plugins"):
            theirs.head = torch.nn.Identity()
    size = cfg.input_size[1] if cfg.input_size[1] == cfg.input_size[2] else list(cfg.input_size[1:])
    tries: list[Any] = [None, size, {"pretrained_cfg": tag}]
    if cfg.fixed_input_size and cfg.input_size != default_cfg.input_size:
        tries.pop(0)
    for extra in tries:
        if extra is None and cfg.num_classes == default_cfg.num_classes:
            ours = default
        else:
            keywords = extra if isinstance(extra, dict) else {} if extra is None else {"img_size": extra}
            try:
                with torch.device("meta"):
                    ours = shapes(load(build)(num_classes=cfg.num_classes, in_chans=3, **keywords))
            except TypeError:
                continue
        if ours == shapes(theirs):
            return extra
    raise SystemExit(f"{name}.{tag}: no option of the builder gives the tensors that timm gives")


def translator(name: str) -> str | None:
    """What timm passes files of this architecture through: the name of a function, None where it is nothing.

    Raises:
        SystemExit: it is not a function of a module, and the plugin has no name for it.
    """
    given: list[tuple[Any, bool]] = []

    def record(model: Any, *, filter_fn: Any = None, strict: bool = True, **_: Any) -> None:
        given.append((filter_fn, strict))

    with mock.patch.object(timm.models._builder, "load_pretrained", record), torch.device("meta"):
        timm.model_entrypoint(name)(pretrained=True)
    function, strict = given[-1]
    family = timm.model_entrypoint(name).__module__.rpartition(".")[2]
    if (family, strict) in SPECIAL:
        return SPECIAL[family, strict]
    if function is None:
        return None
    if isinstance(function, functools.partial):
        for known, theirs in translate.PARTIAL.items():
            if (function.func, function.keywords) == (theirs.func, theirs.keywords):
                return f"zoo_plugins.backbones.timm.translate:{known}"
    elif "<locals>" not in function.__qualname__ and strict:
        return f"{function.__module__}:{function.__qualname__}"
    raise SystemExit(f"{name}: no name for what timm passes its files through ({function}, strict={strict})")


def source(full_name: str, cfg: PretrainedCfg) -> tuple[str, str | None] | None:
    """(source, start of the sha256) of weights; None where timm has only a training checkpoint.

    An empty source stands for the file `model.safetensors` in timm's own repository of the same name.
    """
    if cfg.hf_hub_id:
        file = cfg.hf_hub_filename or "model.safetensors"
        usual = (cfg.hf_hub_id, file) == (f"timm/{full_name}", "model.safetensors")
        return ("" if usual else f"hf://{cfg.hf_hub_id}@main/{file}"), None
    hashed = HASHED.fullmatch(str(cfg.url or ""))
    return (str(cfg.url), hashed[1]) if hashed else None


def accuracies(path: Path | None) -> dict[tuple[str, int], float]:
    """(arch.tag, pixels) -> top-1 in percent, from timm's table."""
    if path is None:
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        return {(row["model"], int(row["img_size"])): round(float(row["top1"]), 3) for row in csv.DictReader(file)}


def trimmed(record: list[Any]) -> list[Any]:
    """Without the empty values at its end."""
    while record and record[-1] is None:
        record.pop()
    return record


def tags(name: str) -> Iterator[tuple[str, PretrainedCfg]]:
    """The tags of an architecture that have weights, the default first."""
    names = [full for full in timm.list_models(f"{name}.*", include_tags=True) if full.startswith(f"{name}.")]
    default = get_pretrained_cfg(name).tag
    for full in sorted(names, key=lambda full: full != f"{name}.{default}"):
        cfg = get_pretrained_cfg(full)
        if cfg is not None and cfg.has_weights:
            yield full.partition(".")[2], cfg


def catalogue(top1: dict[tuple[str, int], float]) -> dict[str, Any]:
    """All of it, as it is stored."""
    families, prepared, heads, taken, translators, licenses, data = (Table() for _ in range(7))
    architectures: dict[str, list[Any]] = {}
    left_out: list[str] = []
    started = time.monotonic()
    for name in timm.list_models():
        default = get_pretrained_cfg(name)
        build, module = built(name)
        head = "head" if build.startswith("zoo_plugins") else None
        facts = observe(module, default.input_size, head)
        tensors = shapes(module)
        special = False
        weights = []
        for tag, cfg in tags(name):
            found = source(f"{name}.{tag}", cfg)
            if found is None:
                left_out.append(f"{name}.{tag}")
                continue
            extra = None if tag == default.tag else needed(name, tag, build, tensors, default)
            special = special or isinstance(extra, dict)
            record = [
                tag,
                prepared.add(preprocessing(cfg)),
                licenses.add(cfg.license),
                data.add(trained_on(tag)),
                cfg.num_classes,
                top1.get((f"{name}.{tag}", cfg.input_size[1])),
                extra,
                *(found if found != ("", None) else (None, None)),
            ]
            weights.append(trimmed(record))
        architectures[name] = [
            families.add(getattr(timm.models, name).__module__.rpartition(".")[2]),
            facts.params,
            facts.num_features,
            facts.gmacs,
            prepared.add(preprocessing(default)),
            heads.add(",".join(facts.head)),
            taken.add([*options(module), *(["pretrained_cfg"] * special)]),
            int(head is not None),
            translators.add(translator(name)),
            weights,
        ]
        if len(architectures) % 50 == 0:
            print(f"{len(architectures):5} architectures, {time.monotonic() - started:.0f} s", file=sys.stderr)
    print(f"left out, only a training checkpoint exists: {', '.join(left_out)}", file=sys.stderr)
    return {
        "schema": SCHEMA,
        "timm": timm.__version__,
        "families": families.values,
        "preprocessing": prepared.values,
        "heads": heads.values,
        "options": taken.values,
        "translators": translators.values,
        "licenses": licenses.values,
        "data": data.values,
        "architectures": architectures,
    }


def compact(value: Any) -> str:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":"))


def text(found: dict[str, Any]) -> str:
    """JSON, one architecture a line, so that a diff can be read."""
    parts = []
    for key, value in found.items():
        if key == "architectures":
            lines = (f"{json.dumps(name)}:{compact(record)}" for name, record in value.items())
            parts.append(f'"{key}":{{\n' + ",\n".join(lines) + "\n}")
        else:
            parts.append(f'"{key}":{compact(value)}')
    return "{" + ",\n".join(parts) + "}\n"


def write(path: Path, content: str) -> None:
    """Replace a file at once."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8", newline="\n") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def without_accuracies(found: dict[str, Any]) -> dict[str, Any]:
    """The catalogue with the top-1 column blanked, as parsed JSON."""
    found = json.loads(json.dumps(found))
    for record in found["architectures"].values():
        for weights in record[-1]:
            if len(weights) > 5:
                weights[5] = None
                trimmed(weights)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, help="results-imagenet.csv of timm's repository")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    found = catalogue(accuracies(arguments.results))
    if arguments.check:
        stored = json.loads(PATH.read_text(encoding="utf-8"))
        if without_accuracies(stored) != without_accuracies(found):
            raise SystemExit(f"{PATH.name} is not what timm {timm.__version__} gives; run this without --check")
        return
    write(PATH, text(found))
    print(f"{PATH}: {len(found['architectures'])} architectures, {PATH.stat().st_size:,} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
