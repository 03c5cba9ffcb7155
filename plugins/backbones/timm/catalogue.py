"""Read `catalogue.json`, which `tools/timm_catalogue.py` writes.

    {"schema": 1, "timm": VERSION,
     "families": [...], "preprocessing": [[input_size, mean, std, interpolation, crop_pct, crop_mode], ...],
     "heads": [...], "options": [[name, ...], ...], "translators": [...], "licenses": [...], "data": [...],
     "architectures": {NAME: [family, params, num_features, gmacs, preprocessing, head, options, encoder, translator,
                              weights]}}

`weights` is a list, the default first, of [tag, preprocessing, license, data, num_classes, top1, extra, source,
sha256_prefix], the empty end left out. Family, preprocessing, head, options, translator, license and data are indices
into the lists above. `encoder` is 1 where timm's model has no classifier and ours is put behind it. `extra` is the
`img_size` that these weights need, or an object of builder options. No source means the repository on the Hub of the
same name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import zoo

PATH: Final = Path(__file__).with_name("catalogue.json")
SCHEMA: Final = 2
#: Where timm's own function, or ours around an encoder, builds an architecture.
_BUILDERS: Final = ("timm.models:", "zoo_plugins.backbones.timm.encoder:")
_NONE: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What one version of timm offers.

    Args:
        timm: the version it was made for.
        content: the parsed file.
        prepared: its preprocessing table; specs share the objects.
    """

    timm: str
    content: dict[str, Any]
    prepared: tuple[zoo.Preprocessing, ...]

    def backbones(self) -> Iterator[zoo.Backbone]:
        """Every architecture."""
        families, heads, translators = (self.content[key] for key in ("families", "heads", "translators"))
        options = [tuple(names) for names in self.content["options"]]
        for name, record in self.content["architectures"].items():
            family, params, num_features, gmacs, prepared, head, option, encoder, translator, _ = record
            preprocessing = self.prepared[prepared]
            yield zoo.Backbone(
                name,
                families[family],
                _BUILDERS[encoder] + name,
                num_features,
                params,
                preprocessing.input_size,
                heads[head],
                "image",
                options[option],
                preprocessing,
                None,
                gmacs,
                translate=translators[translator],
            )

    def weights(self) -> Iterator[zoo.Weights]:
        """Every tag of every architecture, an architecture's default first."""
        licenses, data = self.content["licenses"], self.content["data"]
        for arch, (*_, tags) in self.content["architectures"].items():
            for position, record in enumerate(tags):
                tag, prepared, license_, trained_on, classes, top1, extra, source, prefix, *_ = *record, *_PADDING
                name = f"{arch}.{tag}"
                yield zoo.Weights(
                    name,
                    arch,
                    source or f"hf://timm/{name}@main/model.safetensors",
                    position == 0,
                    None,
                    prefix,
                    None,
                    licenses[license_],
                    data[trained_on],
                    classes,
                    _NONE if extra is None else extra if isinstance(extra, dict) else {"img_size": extra},
                    _NONE if top1 is None else {"top1": top1},
                    self.prepared[prepared],
                )


#: For the fields that a record leaves out at its end, after the fifth.
_PADDING: Final = (None, None, None, None)


@cache
def read(path: Path = PATH) -> Catalogue:
    """The catalogue that lies at `path`.

    Raises:
        ValueError: it is of another schema.
    """
    content = json.loads(path.read_bytes())
    if content["schema"] != SCHEMA:
        raise ValueError(f"{path.name} is of schema {content['schema']}, not {SCHEMA}")
    prepared = tuple(
        zoo.Preprocessing("image", tuple(size), tuple(mean), tuple(std), interpolation, crop_pct, crop_mode)
        for size, mean, std, interpolation, crop_pct, crop_mode in content["preprocessing"]
    )
    return Catalogue(content["timm"], content, prepared)


def installed() -> str | None:
    """The version of timm that is installed, without importing it."""
    from importlib import metadata

    try:
        return metadata.version("timm")
    except metadata.PackageNotFoundError:
        return None
