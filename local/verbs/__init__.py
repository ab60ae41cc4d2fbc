"""One file per verb of dev.py that does more than start something: `main(options, rest)` answers the exit code."""
