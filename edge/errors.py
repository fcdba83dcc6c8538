"""Every error an operator can act on.

EdgeError                  the command line prints it without a traceback and returns 1
├── MissingDependency      a library that this command needs is not installed
├── ConfigError            station.toml, camera.json or an option says something impossible
├── DataError              an image, mask or folder is missing, unreadable or of another size
├── BundleError            a bundle is damaged, unsigned, untrusted or of a newer schema
├── EngineError            an engine cannot be built, loaded or run
├── ParityError            an engine does not decide as the trained model did
├── CameraError            the camera cannot be used
│   ├── CameraLost         it stopped delivering, or was unplugged
│   └── CameraMismatch     it delivers something else than the product was trained on
├── CalibrationError       what the camera sees does not allow this calibration
├── StorageError           a record cannot be committed
├── UpdateError            an update cannot be found, trusted or fetched
├── BusyError              another process holds this root
├── RemoteError            another machine cannot be reached over ssh, or refuses
└── ControlError           the socket of a running `edge run` cannot be used
"""


def on_one_line(text: str) -> str:
    """A sentence safe for a terminal: line ends and control characters in it are spelled out.

    They come from file names, which anybody may choose, also in the station's own folders.
    """
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )


class EdgeError(Exception):
    """Something an operator can act on: one sentence that says what, where, and what to do."""


class MissingDependency(EdgeError):
    """A library that this command needs is not installed."""


class ConfigError(EdgeError):
    """station.toml, camera.json or an option says something impossible."""


class DataError(EdgeError):
    """An image, mask or folder on disk is missing, unreadable or of the wrong size."""


class BundleError(EdgeError):
    """A bundle is damaged, unsigned, untrusted, of a newer schema, or does not fit."""


class EngineError(EdgeError):
    """An engine cannot be built, loaded or run."""


class ParityError(EdgeError):
    """An engine does not decide as the trained model did."""


class CameraError(EdgeError):
    """The camera cannot be used."""


class CameraLost(CameraError):
    """The camera stopped delivering, or was unplugged."""


class CameraMismatch(CameraError):
    """The camera delivers something else than the product was trained on."""


class CalibrationError(EdgeError):
    """What the camera sees does not allow this calibration."""


class StorageError(EdgeError):
    """A record cannot be committed to disk."""


class UpdateError(EdgeError):
    """An update cannot be found, cannot be trusted or cannot be fetched."""


class BusyError(EdgeError):
    """Another process holds this root."""


class RemoteError(EdgeError):
    """Another machine cannot be reached over ssh, or refuses."""


class ControlError(EdgeError):
    """The socket of a running `edge run` cannot be used, or its process has ended meanwhile."""
