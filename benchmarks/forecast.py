"""How often a forecast's 80% interval holds the truth, and how wide it is against an oracle's.

    python benchmarks/forecast.py [--seeds 1000]

90 days of known processes, the size 30 and 90 days later, and one who knows process and parameters.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import django

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings_test")
django.setup()

from tests.usage.growing_sizes import PROCESSES, coverage, try_out, width_ratio  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1000)
    seeds = parser.parse_args().seeds
    print("| process | 30 days: holds | width | 90 days: holds | width |")
    print("|---|---|---|---|---|")
    for name in PROCESSES:
        cells = []
        for ahead, results in try_out(name, seeds=seeds).items():
            cells += [f"{coverage(results):.0%}", f"{width_ratio(name, ahead, results):.2f} ×"]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
