"""Several processes that train together: how many there are, and what a launcher left undone."""

from __future__ import annotations

import os
from collections.abc import Mapping

from mrprism.core.errors import InputError

SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")  # as Accelerate reads them


def refuse_a_lone_process(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse to train alone where the launcher was asked for several processes.

    `accelerate launch` without GPUs starts one process whatever `--num_processes` says, for it leaves the
    others to mpirun. It tells what it was asked for by the address of a main process, which it sets for
    several processes only.

    Raises:
        InputError: It names the command that starts all of them.
    """
    launched = "ACCELERATE_MIXED_PRECISION" in environment and "ACCELERATE_USE_CPU" in environment
    if launched and "MASTER_PORT" in environment and not any(name in environment for name in SIZES):
        raise InputError(
            "accelerate launch was asked for several processes and started only this one, as it does without "
            "GPUs: use torchrun --nproc_per_node N -m mrprism train ..., or leave --num_processes out"
        )
