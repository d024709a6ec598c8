"""Settings of models that see either the wave or the feature of a fragment, as the user chooses."""

from dataclasses import dataclass

from genrecls.config import Input, ModelSettings
from genrecls.models.shapes import InputShape
from genrecls.settings import setting


@dataclass(frozen=True)
class OneInputSettings(ModelSettings):
    """Base of these models' settings."""

    input: str = setting(
        "feature",
        "What the model sees of a fragment: the feature, or the waveform.",
        flag="--input",
        choices=("feature", "wave"),
    )

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The one that `input` names."""
        return ("wave",) if self.input == "wave" else ("feature",)

    def extents(self, shape: InputShape) -> tuple[int, ...]:
        """The axes of what the model sees: (samples,) or (bins, frames)."""
        return (shape.samples,) if self.input == "wave" else (shape.bins, shape.frames)
