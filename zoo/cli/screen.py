"""A rich console on which text from data gives no orders to the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from zoo.cli.output import visible


class Screen(Console):
    """Shows the control characters in what it prints; its own colours and cursor moves are sent as ever."""

    def render_str(self, text: str, **how: Any) -> Text:
        """The text, measured as it is shown."""
        return super().render_str(visible(text), **how)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Segments whose text is only text."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)
