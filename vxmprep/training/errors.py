"""What can end a training early."""


class TrainingError(ValueError):
    """Input or settings that cannot be trained with; the message is one line for the user."""


class ToldElsewhereError(TrainingError):
    """What the first of several processes cannot use, and says itself."""


class Interrupted(Exception):
    """A signal asked the training to stop; its state has been written.

    Attributes
    ----------
    signal, iteration
        Number of the signal, and how many iterations are done.
    """

    def __init__(self, signal: int, iteration: int) -> None:
        super().__init__(f"interrupted after {iteration} iterations")
        self.signal, self.iteration = signal, iteration


class Diverged(Exception):
    """Loss or gradient is no longer finite; the message says what is left and what to do."""
