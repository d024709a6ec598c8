"""What is done to training crops. Nothing here draws: every function takes the numbers drawn for it.

`…_draws` say which draws a batch needs, `…_amounts` what they mean at the strengths of the settings, and `alter_wave`
and `alter_feature` do it. Draws do not depend on strengths, so that a strength can be changed without moving any
draw. What has a probability of its own is drawn only where that is above 0, because draws are keyed and those of one
augmentation move no others.
"""

from genrecls.augment.draws import Amounts, Draw, Draws
from genrecls.augment.feature import (
    KNOTS,
    Masks,
    alter_feature,
    equalise,
    equaliser_draws,
    equaliser_gains,
    feature_amounts,
    feature_draws,
    mask,
    mask_draws,
    masks_of,
)
from genrecls.augment.mixing import mixup, mixup_weights
from genrecls.augment.variants import Variant, Variation, vary
from genrecls.augment.wave import alter_wave, wave_amounts, wave_draws

__all__ = [
    "KNOTS",
    "Amounts",
    "Draw",
    "Draws",
    "Masks",
    "Variant",
    "Variation",
    "alter_feature",
    "alter_wave",
    "equalise",
    "equaliser_draws",
    "equaliser_gains",
    "feature_amounts",
    "feature_draws",
    "mask",
    "mask_draws",
    "masks_of",
    "mixup",
    "mixup_weights",
    "vary",
    "wave_amounts",
    "wave_draws",
]
