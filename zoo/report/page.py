"""Pages of one file: no request leaves a reader's browser, and text from data is never markup or code.

Templates are Jinja2's, with every value escaped. A policy in the page itself forbids all requests and every script but
the one that was written here.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from zoo import __version__
from zoo.atomic import write_atomically
from zoo.errors import UsageError
from zoo.weights.files import disk_errors

#: What every page of ours says early on; only such a file is overwritten.
MARK: Final = '<meta name="generator" content="zoo '
_TEMPLATES: Final = Path(__file__).with_name("templates")
#: Characters that could end a script element, or that JSON allows and scripts once did not.
_UNSAFE: Final = {ord(one): f"\\u{ord(one):04x}" for one in "<>&\u2028\u2029"}


def render(template: str, *, script: str, **values: Any) -> str:
    """One page.

    Args:
        template: a file of `templates/`.
        script: the file of `templates/` with its script.
        values: what the template shows.
    """
    environment = _environment()
    code = _read(script)
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )
    return environment.get_template(template).render(
        style=_read("style.css"), code=code, policy=policy, mark=f'{MARK}{__version__}">', version=__version__, **values
    )


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, json=as_script)
    return environment


def check_place(path: Path) -> None:
    """Find out whether a page can be written there: nothing is, or an older page of ours.

    Raises:
        UsageError: something else is there.
        DiskError: what is there cannot be read.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder", hint="Name a file, for instance report.html.")
    with disk_errors("read", path):
        if path.exists():
            with path.open("rb") as file:
                if MARK.encode() not in file.read(2048):
                    raise UsageError(f"{path} exists and is no page of zoo's", hint="Choose another name.")


def write_page(path: Path, text: str) -> Path:
    """Write a page whole or not at all; an older page of ours is replaced.

    Raises:
        UsageError: something else is there.
        DiskError: it cannot be written there.
    """
    check_place(path)
    with disk_errors("write", path):
        write_atomically(path, text.encode("utf-8", "backslashreplace"))  # a file's name may be no text
    return path


def number(value: float | int | None, digits: int = 3) -> str:
    """0.95432 -> "0.954"; 12345 -> "12,345"; None -> "-"."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}"


def as_script(value: Any) -> Any:
    """JSON for a script element, from which no text can break out."""
    from markupsafe import Markup

    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(_UNSAFE))


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def facts(*pairs: tuple[str, Any]) -> Mapping[str, str]:
    """Names and values for a table of two columns; what is None or empty is left out."""
    return {name: str(value) for name, value in pairs if value not in (None, "", [], {})}
