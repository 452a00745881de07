"""Every training behind the tables of this folder and of docs/concepts/mrprism.md, by name.

    python benchmarks/experiments.py                       # lists them
    python benchmarks/experiments.py crowd                 # makes the data set if need be, then trains and compares
    python benchmarks/experiments.py crowd --jobs 8 --work DIR

Real data are looked for in the folder that MRPRISM_DATA names. Stopped, the same command goes on: data sets are
complete or not there, and finished trainings are kept. Results are in WORK/NAME: compare.html, and each table as CSV.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

DATA = {
    **{
        name: f"phantom {{out}} --scenario {name} --size 128 --cases 400"
        for name in ("crowd", "symmetric", "majority", "anonymous", "missing", "two", "forty")
    },
    "drishti": "import drishti {data}/drishti_gs {out} --raters crowd",
    "lidc": "import lidc {data}/lidc/lidc.npz {out}",
    "experts": "import bu-bil {data}/bu_bil {out} --set 6 --raters experts",
    "workers": "import bu-bil {data}/bu_bil {out} --set 6 --raters crowd",
}

SMALL = "--backbone small --learning-rate 1e-3 --schedule cosine"
PROOF = f"--seeds 0,1,2 --size 128 {SMALL} --methods mrprism,fused-label:label=outline"  # is MrPrism worth its cost?
TABLES = f"--seeds 0,1,2 --size 64 {SMALL} --methods table1,table2,table3,deep-ensemble,mc-dropout"
# half the steps of TABLES, for nine variants cost much
PARTS = f"--seeds 0 --size 64 {SMALL} --methods table4"
RATERS = f"--seeds 0,1,2 --size 64 --epochs 10 {SMALL} --methods mrprism,fused-label:label=outline"  # other crowds, 300 steps

# name: (data set, options of `mrprism compare`)
EXPERIMENTS = {
    "crowd": ("crowd", f"{PROOF},aggnet,aggnet:margin=8,fused-label:label=staple --epochs 30"),
    **{name: (name, f"{PROOF} --epochs 30") for name in ("symmetric", "majority", "missing")},
    "drishti": ("drishti", f"{PROOF} --epochs 75"),
    "lidc": ("lidc", f"{PROOF.replace('128', '96')} --epochs 30"),
    "tables-crowd": ("crowd", f"{TABLES} --epochs 10"),
    "tables-drishti": ("drishti", f"{TABLES} --epochs 50"),
    "tables-lidc": ("lidc", f"{TABLES} --epochs 10"),
    "tables-experts": ("experts", f"{TABLES} --epochs 100"),
    "tables-workers": ("workers", f"{TABLES} --epochs 100"),
    "table4-crowd": ("crowd", f"{PARTS} --epochs 5"),
    "table4-drishti": ("drishti", f"{PARTS} --epochs 25"),
    "table4-lidc": ("lidc", f"{PARTS} --epochs 5"),
    "table4-experts": ("experts", f"{PARTS} --epochs 50"),
    "table4-workers": ("workers", f"{PARTS} --epochs 50"),
    **{f"raters-{name}": (name, RATERS) for name in ("anonymous", "two", "forty")},
}


def run(arguments: str) -> None:
    command = [sys.executable, "-m", "mrprism", *shlex.split(arguments)]
    print("$ mrprism", arguments, flush=True)
    subprocess.run(command, check=True)


def dataset(name: str, work: Path) -> Path:
    """The data set's folder in `work`, made if it is not there."""
    folder = work / "data" / name
    if not folder.exists():
        if "{data}" in DATA[name] and "MRPRISM_DATA" not in os.environ:
            sys.exit(f"'{name}' needs real data: set MRPRISM_DATA to their folder")
        folder.parent.mkdir(parents=True, exist_ok=True)
        run(DATA[name].format(out=folder, data=os.environ.get("MRPRISM_DATA")))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="without any: list them")
    parser.add_argument("--work", type=Path, default=Path("experiments"), help="data sets and results")
    parser.add_argument("--jobs", type=int, default=1, help="trainings side by side")
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(EXPERIMENTS))
    if unknown:
        parser.error(f"no experiment '{unknown[0]}'")
    if not given.names:
        for name, (data, options) in EXPERIMENTS.items():
            print(f"{name:22}{data:11}{options}")
        return
    for name in given.names:
        data, options = EXPERIMENTS[name]
        run(f"compare {dataset(data, given.work)} --out {given.work / name} --jobs {given.jobs} {options}")


if __name__ == "__main__":
    main()
