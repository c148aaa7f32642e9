"""Every error that IMMR raises on purpose.

ImmrError                    what was wrong, with which input, and what to do
├── DataError                a table or an image does not keep the data contract
│   ├── ContractError        a column is missing, or a table has no valid row
│   ├── DatasetError         a named data set is not known, not there, or not what it should be
│   └── ImageError           bytes that are not a picture we read
├── RecipeError              a recipe of that name is not known, or its values do not fit together
├── SettingsError            an IMMR_* variable or a URL that no adapter understands
├── TrainingError            training stopped: NaN loss, a dead worker, a bad checkpoint
├── RegistryError            a model version or alias that is not in the registry
├── IndexMismatchError       a collection that was made for another model version
├── IndexUnavailableError    the vector database does not answer
├── FeaturesUnavailableError the feature store does not answer
├── EventLogError            the event log does not take or give events
│   ├── EventRefusedError    an event that the event log will never accept
│   └── TokenError           a click token that is forged, broken or too old
├── ExperimentError          an experiment file that is wrong, or a readout that cannot be made
│   └── ExperimentRunningError  an experiment is running, and only one can
├── DriftError               a drift report that is none, or a check without sense
├── PackagingError           a Bento could not be built
└── DeployError              a version could not be brought up, or did not get ready in time
"""


class ImmrError(Exception):
    """Base of all; its text is a sentence for the user and ends with what to do."""


class DataError(ImmrError):
    """A table or an image does not keep the data contract."""


class ContractError(DataError):
    """A column is missing, or a table has no valid row."""


class DatasetError(DataError):
    """A named data set is not known, not there, or not what it should be."""


class ImageError(DataError):
    """Bytes that are not a picture we read."""


class RecipeError(ImmrError):
    """A recipe of that name is not known, or its values do not fit together."""


class SettingsError(ImmrError):
    """An IMMR_* variable or a URL that no adapter understands."""


class TrainingError(ImmrError):
    """Training stopped: NaN loss, a dead worker, a bad checkpoint."""


class RegistryError(ImmrError):
    """A model version or alias that is not in the registry."""


class IndexMismatchError(ImmrError):
    """A collection that was made for another model version."""


class IndexUnavailableError(ImmrError):
    """The vector database does not answer."""


class FeaturesUnavailableError(ImmrError):
    """The feature store does not answer."""


class EventLogError(ImmrError):
    """The event log does not take or give events."""


class EventRefusedError(EventLogError):
    """An event that the event log will never accept, however often it is sent."""


class TokenError(EventLogError):
    """A click token that is forged, broken or too old."""


class ExperimentError(ImmrError):
    """An experiment file that is wrong, or a readout that cannot be made."""


class ExperimentRunningError(ExperimentError):
    """An experiment is running, and only one can."""


class DriftError(ImmrError):
    """A drift report that is none, or a check without sense."""


class PackagingError(ImmrError):
    """A Bento could not be built."""


class DeployError(ImmrError):
    """A version could not be brought up, or did not get ready in time."""
