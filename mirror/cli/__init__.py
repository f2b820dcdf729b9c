"""Arguments in, exit code out: the only package that prints.

Heavy imports stay inside the commands that need them, so that `--version`, `--help` and completion
are quick. A command is one function and what it takes, in the module of its kind.
"""
