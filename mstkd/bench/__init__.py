"""What this machine does in a second, and how long an experiment would take on it."""
