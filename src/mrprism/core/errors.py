"""The one error users see."""


class InputError(Exception):
    """Something given to mrprism is wrong, said in one sentence.

    The sentence names what was wrong, in which file, and what was expected.
    The command line prints it without a traceback and exits with code 2.
    """
