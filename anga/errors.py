"""The one exception for what a user can put right; the command line prints it without a traceback."""


class AngaError(ValueError):
    """What was found, what was expected and what to do, in one sentence."""
