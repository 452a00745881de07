"""Agreement statistics beside statsmodels, krippendorff and pingouin, on the same arrays in one run.

    python benchmarks/agreement.py [--repeats 5] [--json FILE]

Our times include counting the vote patterns from the masks; theirs start from the arrays the package
wants, and include building its table where it has no other way in (statsmodels' `aggregate_raters`).
The best of the repeats is given for both sides.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import krippendorff
import numpy as np
from statsmodels.stats.inter_rater import aggregate_raters
from statsmodels.stats.inter_rater import fleiss_kappa as statsmodels_fleiss

from mrprism.agreement import fleiss_kappa, icc, krippendorff_alpha
from mrprism.core.patterns import count_patterns

RATERS = 5


def masks(pixels: int, seed: int = 0) -> np.ndarray:
    """(R, pixels) bool: raters who see a tenth of the pixels marked and slip on one in ten."""
    rng = np.random.default_rng(seed)
    truth = rng.random(pixels) < 0.1
    return np.stack([truth ^ (rng.random(pixels) < 0.1) for _ in range(RATERS)])


def fleiss(pixels: int, repeats: int) -> dict[str, Any]:
    """Complete ratings."""
    drawn = masks(pixels)
    columns = drawn.T.astype(np.int64)  # what aggregate_raters takes: pixels down, raters across
    votes = drawn.sum(axis=0)
    table = np.stack([RATERS - votes, votes], axis=1)  # what fleiss_kappa takes, given away for free
    ours, found = _best(lambda: fleiss_kappa(count_patterns(drawn)), repeats)
    bare, expected = _best(lambda: statsmodels_fleiss(table), repeats)
    whole, _ = _best(lambda: statsmodels_fleiss(aggregate_raters(columns)[0]), 1)
    row = _row("Fleiss' kappa", "statsmodels fleiss_kappa, table given", pixels, ours, bare, found - expected)
    row["theirs_with_table_s"] = whole
    row["times_with_table"] = whole / ours
    return row


def alpha(pixels: int, repeats: int, missing: float) -> dict[str, Any]:
    """Ratings with a share missing, each side in its own form: -1 here, NaN there."""
    rng = np.random.default_rng(1)
    drawn = masks(pixels).astype(np.int8)
    drawn[rng.random(drawn.shape) < missing] = -1
    floats = np.where(drawn < 0, np.nan, drawn)
    ours, found = _best(lambda: krippendorff_alpha(count_patterns(drawn)), repeats)
    theirs, expected = _best(lambda: krippendorff.alpha(floats, level_of_measurement="nominal"), repeats)
    name = f"Krippendorff's alpha, {missing:.0%} missing"
    return _row(name, "krippendorff", pixels, ours, theirs, found - expected)


def correlation(cases: int) -> dict[str, Any]:
    """ICC of sizes, each of the six kinds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pandas as pd
        import pingouin

        rng = np.random.default_rng(2)
        sizes = 3000 + 500 * rng.standard_normal((cases, 1)) + 100 * rng.standard_normal((cases, RATERS))
        rows, columns = np.indices(sizes.shape)
        frame = pd.DataFrame({"case": rows.ravel(), "rater": columns.ravel(), "size": sizes.ravel()})

        def reference() -> np.ndarray:
            table = pingouin.intraclass_corr(frame, targets="case", raters="rater", ratings="size")
            return table["ICC"].to_numpy()

        ours, found = _best(lambda: np.array(list(icc(sizes).values())), 5)
        theirs, expected = _best(reference, 3)
    return _row("ICC, six kinds", "pingouin", cases, ours, theirs, np.abs(found - expected).max())


def _best(call: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        value = call()
        times.append(time.perf_counter() - start)
    return min(times), value


def _row(name: str, rival: str, size: int, ours: float, theirs: float, difference: float) -> dict[str, Any]:
    return {
        "statistic": name,
        "rival": rival,
        "size": size,
        "ours_s": ours,
        "theirs_s": theirs,
        "times": theirs / ours,
        "difference": float(abs(difference)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [
        fleiss(2_097_152, options.repeats),
        alpha(2_097_152, options.repeats, 0.0),
        alpha(2_097_152, options.repeats, 0.2),
        correlation(200),
    ]
    print(
        "| statistic | pixels (cases) × 5 raters | mrprism s | rival s | times | difference |\n"
        "|---|---|---|---|---|---|"
    )
    for row in rows:
        more = (
            f" ({row['times_with_table']:.0f} with building its table)" if "times_with_table" in row else ""
        )
        rival = f"{row['theirs_s']:.4f} {row['rival']}"
        print(
            f"| {row['statistic']} | {row['size']:,} | {row['ours_s']:.4f} | {rival} "
            f"| {row['times']:.0f}{more} | {row['difference']:.1e} |"
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
