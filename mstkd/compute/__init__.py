"""Where work runs: devices, processes, signals."""
