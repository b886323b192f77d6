"""Charts as SVG, by pygal, in colours that a page chooses for day and for night.

They are CSS variables; the page defines --ink, --faint and --mark. What pygal adds for its own
pages (scripts, comments, texts for tooltips) is taken out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from r2maint.errors import ConfigError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_WIDTH = 400
"""Of the drawing; close to a phone's, so that its letters stay readable there."""
_BAR, _FRAME, _LINE_HEIGHT, _HALF_A_DATE = 28, 16, 220, 40
_LONGEST_LABEL, _HEAD, _TAIL = 20, 6, 13
_ROOM_FOR_VALUES = Decimal("1.3")
"""Right of the longest bar, where its amount is written."""
_ISOLATED = "\u2068{}\u2069"
"""First strong isolate: an Arabic name keeps its order, and the text around it too."""
_UNUSED = ("script", "desc", "title")
_CSS = (
    "file://graph.css",
    "file://style.css",
    "inline:.pygal-chart .text-overlay text.value{text-anchor:start}"
    ".pygal-chart path.line{fill-opacity:.2 !important;stroke-width:2 !important}",
)


def require_library() -> None:
    """Raise ConfigError when charts cannot be drawn: asked before the work, not after."""
    try:
        import pygal  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "--format html draws its charts with pygal, which is not installed.",
            "Run: python -m pip install 'r2maint[html]'",
        ) from error


def draw_bars(
    labels: Sequence[str], amounts: Sequence[Decimal], told: Callable[[Decimal], str], title: str
) -> str:
    """Return an SVG element with one bar a label, the first on top; `told` words an amount."""
    import pygal

    chart = pygal.HorizontalBar(
        **_settings(told),
        height=_FRAME + _BAR * len(labels),
        print_values=True,
        print_values_position="top",
        show_x_labels=False,
        show_y_guides=False,
        range=(0, float(max(amounts) * _ROOM_FOR_VALUES)),
    )
    chart.x_labels = [_label(label) for label in reversed(labels)]
    chart.add("", [float(amount) for amount in reversed(amounts)])
    return _render(chart, title)


def draw_line(
    days: Sequence[str], amounts: Sequence[Decimal], told: Callable[[Decimal], str], title: str
) -> str:
    """Return an SVG element with a line through the amounts of ISO dates, two or more.

    Days that are missing take their room all the same.
    """
    import pygal

    # Not pygal's DateLine, which asks what Python 3.12 deprecates.
    dates = [date.fromisoformat(day).toordinal() for day in days]
    chart = pygal.XY(
        **_settings(told),
        height=_LINE_HEIGHT,
        margin_right=_HALF_A_DATE,
        show_dots=False,
        fill=True,
        include_x_axis=True,
        truncate_label=-1,
        y_labels_major_count=4,
        show_minor_y_labels=False,
        x_value_formatter=lambda day: date.fromordinal(round(day)).isoformat(),
    )
    chart.x_labels = [dates[0], dates[-1]]
    chart.add("", list(zip(dates, map(float, amounts), strict=True)))
    return _render(chart, title)


def _settings(told: Callable[[Decimal], str]) -> dict[str, Any]:
    from pygal.style import Style

    style = Style(
        **dict.fromkeys(("background", "plot_background"), "transparent"),
        **dict.fromkeys(("foreground", "foreground_strong"), "var(--ink)"),
        **dict.fromkeys(("foreground_subtle", "guide_stroke_color"), "var(--faint)"),
        major_guide_stroke_color="var(--faint)",
        colors=("var(--mark)",),
        value_colors=("var(--ink)",),
        **dict.fromkeys(("opacity", "stroke_opacity"), "1"),
        font_family="inherit",
        transition="0s",
        label_font_size=13,
        major_label_font_size=13,
        value_font_size=13,
    )
    return {
        "style": style,
        "css": list(_CSS),
        "js": [],
        "width": _WIDTH,
        "margin": 6,
        "show_legend": False,
        "value_formatter": lambda value: told(Decimal(str(value or 0))),
    }


def _label(label: str) -> str:
    # pygal leaves room for the longest label, were it a thousand letters. Fields of one model and
    # folders of one folder differ at their end.
    cut = label if len(label) <= _LONGEST_LABEL else f"{label[:_HEAD]}…{label[-_TAIL:]}"
    return _ISOLATED.format(cut)


def _render(chart: Any, title: str) -> str:
    def finish(root: Element) -> Element:
        root.set("role", "img")
        root.set("aria-label", title)
        _strip(root)
        return root

    chart.add_xml_filter(finish)
    return str(chart.render(is_unicode=True, disable_xml_declaration=True))


def _strip(root: Element) -> None:
    """Take out what only pygal's own scripts would read; a page shows `title`s when pointed at."""
    for parent in list(root.iter()):
        for child in list(parent):
            if not isinstance(child.tag, str) or child.tag in _UNUSED:
                parent.remove(child)
