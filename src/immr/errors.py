"""IMMR's exceptions.

ImmrError                    the message: what happened, with which input, and what to do
├── DataError                a table or an image violates the data contract
│   ├── ContractError        a column is missing, or a table has no valid row
│   ├── DatasetError         a named data set is unknown, missing or not as expected
│   └── ImageError           an image is damaged, too large, or in an unknown format
├── RecipeError              a recipe is unknown, or its values contradict each other
├── SettingsError            an IMMR_* variable is invalid, or no adapter understands its URL
├── CapacityError            a step needs more memory or disk than is free
├── TrainingError            training stopped: NaN loss, a dead worker, a bad checkpoint
├── RankingError             a ranker cannot be learned from this click log, or cannot be read
├── RegistryError            a model version or role is not in the registry, or MLflow does not answer
├── IndexMismatchError       a collection belongs to another model version
├── IndexUnavailableError    the vector database does not answer
├── FeaturesUnavailableError the feature store does not answer
├── EventLogError            the event log cannot be written or read
│   ├── EventRefusedError    an event that the event log will never accept
│   └── TokenError           a click token is forged, damaged or expired
├── ExperimentError          an experiment file is invalid, or a readout is impossible
│   ├── ExperimentRunningError  an experiment is running, and only one can
│   └── ExperimentBusyError  another process is changing the experiment
├── DriftError               a drift report is invalid, or a check is impossible
├── PackagingError           a Bento could not be built
├── DeployError              a version could not be started, or was not ready in time
└── ServiceError             a running service refused a request of `immr.client`, or did not answer
"""


class ImmrError(Exception):
    """Base class. The message is a sentence for the user that ends with what to do."""


class DataError(ImmrError):
    """A table or an image violates the data contract."""


class ContractError(DataError):
    """A column is missing, or a table has no valid row."""


class DatasetError(DataError):
    """A named data set is unknown, missing or not as expected."""


class ImageError(DataError):
    """An image is damaged, too large, or in an unknown format."""


class RecipeError(ImmrError):
    """A recipe is unknown, or its values contradict each other."""


class SettingsError(ImmrError):
    """An IMMR_* variable is invalid, or no adapter understands its URL."""


class CapacityError(ImmrError):
    """A step needs more memory or disk than is free."""


class TrainingError(ImmrError):
    """Training stopped: NaN loss, a dead worker, a bad checkpoint."""


class RankingError(ImmrError):
    """A ranker cannot be learned from this click log, or cannot be read."""


class RegistryError(ImmrError):
    """A model version or role is not in the registry, or MLflow does not answer."""


class IndexMismatchError(ImmrError):
    """A collection belongs to another model version."""


class IndexUnavailableError(ImmrError):
    """The vector database does not answer."""


class FeaturesUnavailableError(ImmrError):
    """The feature store does not answer."""


class EventLogError(ImmrError):
    """The event log cannot be written or read."""


class EventRefusedError(EventLogError):
    """An event that the event log will never accept, however often it is sent."""


class TokenError(EventLogError):
    """A click token is forged, damaged or expired."""


class ExperimentError(ImmrError):
    """An experiment file is invalid, or a readout is impossible."""


class ExperimentRunningError(ExperimentError):
    """An experiment is running, and only one can."""


class ExperimentBusyError(ExperimentError):
    """Another process is changing the experiment; a later call will work."""


class DriftError(ImmrError):
    """A drift report is invalid, or a check is impossible."""


class PackagingError(ImmrError):
    """A Bento could not be built."""


class DeployError(ImmrError):
    """A version could not be started, or was not ready in time."""


class ServiceError(ImmrError):
    """A running service refused a request of `immr.client`, or did not answer.

    Attributes:
        status: The HTTP status; 0 if there was no answer.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status
