"""A page over tables of scored pairs, served to this machine's browser alone: `mstkd view`."""
