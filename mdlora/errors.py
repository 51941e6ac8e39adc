"""Every error that mdlora raises on purpose.

    MdloraError
    ├── ConfigError        (ValueError)      a setting is unknown, out of range or contradictory
    ├── DataError          (ValueError)      a file, row or column is not what was expected
    │   └── SchemaError                      a schema file, or rows that do not fit a schema
    ├── AdapterError       (ValueError)      adapters, routes or domain ids do not fit a model
    ├── RunError           (RuntimeError)    a run folder cannot be written, read or resumed
    │   └── FrozenTensorChanged              a tensor moved in a phase that had frozen it: a defect
    └── MissingExtraError  (ImportError)     an optional dependency is not installed

Each message says what was given, what was expected and what to do.
"""

__all__ = [
    "AdapterError",
    "ConfigError",
    "DataError",
    "FrozenTensorChanged",
    "MdloraError",
    "MissingExtraError",
    "RunError",
    "SchemaError",
]


class MdloraError(Exception):
    """The base of all errors below: catch it to catch whatever mdlora raises on purpose."""


class ConfigError(MdloraError, ValueError):
    """A setting is unknown, out of range, or contradicts another setting."""


class DataError(MdloraError, ValueError):
    """A file, a row or a column is not what was expected."""


class SchemaError(DataError):
    """A schema file is unreadable, or rows do not fit the schema."""


class AdapterError(MdloraError, ValueError):
    """Adapters, routes or domain ids do not fit the model."""


class RunError(MdloraError, RuntimeError):
    """A run folder cannot be written, read or resumed."""


class FrozenTensorChanged(RunError):  # noqa: N818 - it says what happened
    """A tensor moved during a phase that had frozen it. This is a defect of mdlora: report it."""


class MissingExtraError(MdloraError, ImportError):
    """An optional dependency is not installed; the message names the extra to install."""
