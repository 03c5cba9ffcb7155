"""Write torchvision's own weights of the curated architectures into registry.toml.

    python tools/torchvision_weights.py [--check]

Everything is read from the `*_Weights` enums of the installed torchvision: the address, whose file name ends with the
start of the file's sha256, the transforms and the accuracy. Entries of other publishers stay as they are. `--check`
writes nothing and fails where the file differs.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from torchvision.models import get_model_weights, list_models
from zoo_plugins.backbones import alexnet, resnet, vgg

from zoo.atomic import write_atomically
from zoo.catalog import ledger

PATH: Final = Path(__file__).resolve().parent.parent / "registry.toml"
#: torchvision's licence; timm states the same one for the copies of these weights that it publishes.
LICENSE: Final = "bsd-3-clause"
#: A member of the enums that is a whole network trained on ImageNet; VGG-16 also has one without a classifier.
MEMBER: Final = re.compile(r"IMAGENET1K_V([0-9]+)")
HASHED: Final = re.compile(r"https://download\.pytorch\.org/models/[\w.-]+-([0-9a-f]{8,})\.pth")
_BLOCK: Final = re.compile(r'^\[weights\."(?P<arch>[^."]+)\.(?P<tag>[^"]+)"\]$', re.MULTILINE)


def tag_of(arch: str, version: int) -> str:
    """`alexnet` is on no Hub, so torchvision's are its weights; elsewhere `tv_in1k` is timm's copy."""
    return "tv_in1k" if arch == "alexnet" else f"torchvision_v{version}"


def blocks() -> Iterator[tuple[str, str]]:
    """(arch.tag, the lines of its entry), in the order of the plugins."""
    known = set(list_models())
    for plugin in (alexnet, vgg, resnet):
        for spec in plugin.zoo_backbones():
            for member in get_model_weights(spec.name) if spec.name in known else ():
                if (version := MEMBER.fullmatch(member.name)) is not None:
                    tag = tag_of(spec.name, int(version[1]))
                    yield f"{spec.name}.{tag}", block(spec.name, tag, member)


def block(arch: str, tag: str, member: Any) -> str:
    """One entry.

    Raises:
        SystemExit: the address does not end with the start of a hash, or the transforms are of another kind.
    """
    prefix, transform = HASHED.fullmatch(member.url), member.transforms()
    (crop,), (resize,) = transform.crop_size, transform.resize_size
    if prefix is None or type(transform).__name__ != "ImageClassification":
        raise SystemExit(f"{arch}: {member.url} or its transforms are not of the known kind")
    lines = [
        f'[weights."{arch}.{tag}"]',
        f'backbone = "{arch}"',
        *(["default = true"] if arch == "alexnet" else []),
        f'source = "{member.url}"',
        f'sha256_prefix = "{prefix[1]}"',
        f'license = "{LICENSE}"',
        'trained_on = "imagenet-1k"',
        f"num_classes = {len(member.meta['categories'])}",
        f"metrics = {{ top1 = {member.meta['_metrics']['ImageNet-1K']['acc@1']} }}",
        f"preprocessing = {{ input_size = [3, {crop}, {crop}], mean = {list(transform.mean)}, "
        f'std = {list(transform.std)}, interpolation = "{transform.interpolation.value}", '
        f"crop_pct = {crop / resize} }}",
    ]
    return "\n".join(lines) + "\n"


def merged(text: str) -> str:
    """The registry file with torchvision's entries brought up to date, each after the last one of its architecture."""
    starts = [*_BLOCK.finditer(text)]
    head = text[: starts[0].start()]
    ends = [*(found.start() for found in starts[1:]), len(text)]
    found = {
        f"{one['arch']}.{one['tag']}": text[one.start() : end].rstrip("\n") + "\n"
        for one, end in zip(starts, ends, strict=True)
    }
    wanted = dict(blocks())
    kept = {
        name: lines
        for name, lines in found.items()
        if name in wanted or 'source = "https://download.pytorch.org/' not in lines
    }
    for name, lines in wanted.items():
        if name in kept:
            kept[name] = lines
            continue
        arch = name.partition(".")[0]
        names = list(kept)
        place = max((at for at, known in enumerate(names) if known.partition(".")[0] == arch), default=len(names) - 1)
        kept = dict([*list(kept.items())[: place + 1], (name, lines), *list(kept.items())[place + 1 :]])
    return head + "\n".join(kept.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    before = PATH.read_text(encoding="utf-8")
    after = merged(before)
    ledger.parse(after, PATH, "shipped")
    if check and before != after:
        raise SystemExit(f"{PATH.name} is not what the installed torchvision gives; run this without --check")
    if not check:
        write_atomically(PATH, after.encode())


if __name__ == "__main__":
    main()
