"""The exceptions of this package.

Every one of them is meant to be read by a person: it names what was wrong, where, and the mend.
`InputError` and its children mean that the caller can mend it (the command line exits with 2).
"""


class InterpError(Exception):
    """Base of every error that this package raises on purpose."""


class InputError(InterpError):
    """The input cannot be used as it is; the message names the file or field and the mend."""


class ModelError(InputError):
    """A model folder or hub id that cannot be loaded, or a model that does not fit the request."""


class TokenizerError(InputError):
    """A tokenizer that is missing, broken, or does not fit its model."""


class AdapterError(InputError):
    """An adapter that is missing, malformed, unsafe, or made for another base."""


class MergeError(InputError):
    """A merge whose error against the unmerged adapter is too large to trust."""


class DataError(InputError):
    """A data file that cannot be read or fails a check."""


class TraitError(InputError):
    """A trait name that is none of the Big Five."""


class RunError(InputError):
    """A run folder that holds something else, or is incomplete."""
