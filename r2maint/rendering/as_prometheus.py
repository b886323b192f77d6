"""A report's metrics in Prometheus' text format, as node_exporter's textfile collector reads it.

Source: prometheus.io/docs/instrumenting/exposition_formats, "Text format details". No sample has a
timestamp: the collector refuses files that hold one.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from r2maint.rendering.document import Report, Sink

_IN_HELP = str.maketrans({"\\": r"\\", "\n": r"\n"})
_IN_LABEL = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def write_prometheus(report: Report, out: Sink) -> None:
    """Write every metric as a gauge; of items, sections and notes nothing is shown."""
    encoding = getattr(out, "encoding", None) or "utf-8"
    for metric in report.metrics:
        out.write(f"# HELP {metric.name} {metric.help.translate(_IN_HELP)}\n")
        out.write(f"# TYPE {metric.name} gauge\n")
        for labels, value in metric.samples:
            out.write(f"{metric.name}{_labels(labels, encoding)} {_number(value)}\n")


def _labels(labels: Mapping[str, str], encoding: str) -> str:
    told = (f'{name}="{_escaped(value, encoding)}"' for name, value in labels.items())
    return "{" + ",".join(told) + "}" if labels else ""


def _escaped(value: str, encoding: str) -> str:
    # Encoded first: an escape of the stream's own would be none of the format's.
    storable = value.encode(encoding, "backslashreplace").decode(encoding)
    return storable.translate(_IN_LABEL)


def _number(value: int | float | Decimal) -> str:
    return f"{value:f}" if isinstance(value, Decimal) else str(value)
