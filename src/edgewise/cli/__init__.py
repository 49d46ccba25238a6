"""The command line: arguments, progress and words; one file a command. The other rooms do the work."""

from edgewise.cli.app import main

__all__ = ["main"]
