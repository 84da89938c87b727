"""One module a command: `Options`, and `run(options)`, which gives the exit code or None."""
