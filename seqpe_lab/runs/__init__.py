"""A run is a folder: its recipe, log, checkpoints and results; it may be killed at any moment."""
from seqpe_lab.runs.folder_claims import RunningError
from seqpe_lab.runs.run import (KEEP_LAST, SPEED_AND_MEMORY, CheckpointError, Run, list_runs,
                                scan_runs)
from seqpe_lab.runs.run_folder import main_measure, runs_folder

__all__ = ["KEEP_LAST", "SPEED_AND_MEMORY", "CheckpointError", "Run", "RunningError", "list_runs",
           "main_measure", "runs_folder", "scan_runs"]
