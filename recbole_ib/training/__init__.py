"""One run: trainers, checkpoints, processes, records and diagnostics."""
