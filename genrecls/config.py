"""The settings of an experiment, in sections, with their defaults: the one source for recipe, flags and help.

`read` turns nested dictionaries (a recipe, overlaid by flags and `--set`) into a checked `Config`; `Config.values` is
its inverse. The section `model` is the config class of the model's own, which the registry of models knows.

The number SCHEMA enters every run's id. No default below may change without a new one.
"""

import dataclasses
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from genrecls.errors import ConfigError
from genrecls.kernels import NATIVE, PORTABLE, THREADS
from genrecls.settings import MAX_SEED, Condition, Section, Setting, described, setting, suggestion

SCHEMA = 3
EXTRACTOR_VERSION = 2
WAVE_VERSION = 1
"""Of the 2-D features and of the waveform, in the keys of caches: one more for each change that moves a bit."""
DEFAULT_MODEL = "se-resnet"
SCHEDULES = ("cosine", "constant", "linear", "step", "plateau", "step-plateau", "one-cycle")
PUBLISHED = ("filtered", "official")
"""Policies that a corpus comes with."""
POLICIES = (*PUBLISHED, "grouped", "random", "kfold", "contaminated")

Nested = dict[str, dict[str, Any]]

Input = Literal["wave", "feature"]
"""What a model sees of a fragment: its samples (batch, 1, samples), or a 2-D feature (batch, 1, bins, frames)."""

FEATURE = Condition("models that take a 2-D feature", lambda config: "feature" in config.model.inputs)
PATIENCE = Condition("training that --patience can end", lambda config: config.training.patience > 0)
LOG_POWER = Condition(
    "models that take mel or spectrogram on a log scale, normalised by the corpus or not at all",
    lambda config: (
        FEATURE.holds(config)
        and config.features.kind != "mfcc"
        and config.features.scale == "log"
        and config.batches.normalisation in ("corpus", "none")
    ),
)
WAVE = Condition("models that take the waveform", lambda config: "wave" in config.model.inputs)
WAVE_OR_VARIANTS = Condition(
    "models that take the waveform, and to variants (--variants)",
    lambda config: WAVE.holds(config) or config.augment.variants > 0,
)
VARIANTS = Condition("variants (--variants)", lambda config: config.augment.variants > 0)
VARIED = Condition(
    "splits of whole clips (any but contaminated) with something to render: a probability of stretching, pitch or "
    "speed, or, for models without the waveform, of gain or noise",
    lambda config: config.split.policy != "contaminated" and config.augment.renders(config.model.inputs),
)


def _switched_on(name: str, beside: Condition) -> Condition:
    """The condition of a strength: beside what it has a meaning, and its augmentation has a probability."""
    probability = f"{name}_probability"
    return Condition(
        f"{beside.words}, with augment.{probability} above 0",
        lambda config: beside.holds(config) and getattr(config.augment, probability) > 0,
    )


MASK = _switched_on("mask", FEATURE)
NOISE = _switched_on("noise", WAVE_OR_VARIANTS)
WAVE_MASK = _switched_on("wave_mask", WAVE)


@dataclass(frozen=True)
class DatasetSettings(Section):
    """Which corpus, and where it lies. The files themselves enter a run's id by their fingerprint."""

    section: ClassVar[str] = "dataset"
    name: str = setting("gtzan", "Corpus to use.", flag="--dataset")
    data_dir: str = setting(
        "", "Folder of the corpus.", flag="--data-dir", shown="the corpus's own place below --res", changes_bits=False
    )
    groups: str = setting(
        "",
        "CSV with the columns clip,group: artist or recording of each clip.",
        flag="--groups",
        shown="none",
        changes_bits=False,
    )
    exclude_genres: str = setting(
        "", "Genres to leave out, separated by commas.", flag="--exclude-genres", shown="none"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        names = (unicodedata.normalize("NFC", name.strip()) for name in self.exclude_genres.split(","))
        # In one form, whatever the order, so that one choice of genres is one run.
        object.__setattr__(self, "exclude_genres", ",".join(sorted({name for name in names if name})))

    @property
    def excluded(self) -> tuple[str, ...]:
        """The genres of `exclude_genres`, sorted."""
        return tuple(self.exclude_genres.split(",")) if self.exclude_genres else ()


@dataclass(frozen=True)
class SplitSettings(Section):
    """Which clips train, validate and test."""

    section: ClassVar[str] = "split"
    policy: str = setting(
        "auto", "How clips are split.", flag="--split", choices=("auto", *POLICIES), shown="the corpus's own"
    )
    folds: int = setting(5, "Number of folds.", flag="--folds", low=3, high=100, applies=("policy", ("kfold",)))
    fold: int = setting(0, "Test fold, from 0.", flag="--fold", low=0, high=99, applies=("policy", ("kfold",)))
    seed: int = setting(
        0,
        "Seed of the split, apart from --seed.",
        flag="--split-seed",
        low=0,
        high=MAX_SEED,
        applies=("policy", ("auto", "grouped", "random", "kfold", "contaminated")),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fold >= self.folds:
            raise ConfigError(f"split.fold (--fold) must be below split.folds (--folds {self.folds}), not {self.fold}.")


@dataclass(frozen=True)
class FeatureSettings(Section):
    """Rate and frames, which every model's fragments are counted in, and the 2-D feature, by torchaudio."""

    section: ClassVar[str] = "features"
    sample_rate: int = setting(22050, "Rate audio is resampled to, in Hz.", flag="--sample-rate", low=2000, high=192000)
    n_fft: int = setting(
        2048, "Length of the Fourier transform, in samples.", flag="--n-fft", low=64, high=65536, only=FEATURE
    )
    hop_length: int = setting(512, "Samples between frames.", flag="--hop-length", low=16, high=65536)
    n_mels: int = setting(
        128, "Mel bins.", flag="--n-mels", low=8, high=512, applies=("kind", ("mel", "mfcc")), only=FEATURE
    )
    f_min: float = setting(
        0.0, "Lowest frequency, in Hz.", flag="--f-min", low=0, applies=("kind", ("mel", "mfcc")), only=FEATURE
    )
    f_max: float = setting(
        0.0,
        "Highest frequency, in Hz; 0 is half the sample rate.",
        flag="--f-max",
        low=0,
        shown="half the sample rate",
        applies=("kind", ("mel", "mfcc")),
        only=FEATURE,
    )
    kind: str = setting(
        "mel",
        "The 2-D feature: power by mel bins, its cepstral coefficients, or power by all bins of the Fourier transform.",
        flag="--feature",
        choices=("mel", "mfcc", "spectrogram"),
        only=FEATURE,
    )
    n_mfcc: int = setting(
        20, "Cepstral coefficients.", flag="--n-mfcc", low=2, high=512, applies=("kind", ("mfcc",)), only=FEATURE
    )
    scale: str = setting(
        "log",
        "Power as its natural log (of power + 1e-6), or as power restored from that.",
        flag="--scale",
        choices=("log", "power"),
        applies=("kind", ("mel", "spectrogram")),
        only=FEATURE,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.highest > self.sample_rate / 2:
            raise ConfigError(
                f"features.f_max (--f-max) must be at most half the sample rate ({self.sample_rate / 2:g} Hz), "
                f"not {self.f_max:g}."
            )
        if self.f_min >= self.highest:
            raise ConfigError(
                f"features.f_min (--f-min) must be below the highest frequency ({self.highest:g} Hz), "
                f"not {self.f_min:g}."
            )
        if self.kind == "mfcc" and self.n_mfcc > self.n_mels:
            raise ConfigError(
                f"features.n_mfcc (--n-mfcc) must be at most features.n_mels (--n-mels {self.n_mels}), not "
                f"{self.n_mfcc}."
            )

    @property
    def highest(self) -> float:
        """The upper edge of the filterbank in Hz."""
        return self.f_max or self.sample_rate / 2

    @property
    def bins(self) -> int:
        """Rows of the 2-D feature."""
        return {"mel": self.n_mels, "mfcc": self.n_mfcc, "spectrogram": self.n_fft // 2 + 1}[self.kind]

    def frames(self, seconds: float) -> int:
        """The number of frames that covers a fragment of this length, at least 1."""
        return max(1, round(seconds * self.sample_rate / self.hop_length))


@dataclass(frozen=True)
class BatchSettings(Section):
    """What a training step sees."""

    section: ClassVar[str] = "batches"
    fragment: float = setting(3.0, "Length of a crop, in seconds.", flag="--fragment", above=0, high=600)
    crops_per_clip: int = setting(
        6, "Random crops of each training clip in an epoch.", flag="--crops-per-clip", low=1, high=1000
    )
    batch_size: int = setting(32, "Crops in a step.", flag="--batch-size", low=2, high=65536)
    normalisation: str = setting(
        "corpus",
        "Mean 0 and deviation 1 of each bin (of the waveform as a whole) over the training clips (corpus) or over "
        "what the model sees at a time (clip), 0 to 1 over all of that (clip-minmax), or the values as they are.",
        flag="--normalisation",
        choices=("corpus", "clip", "clip-minmax", "none"),
    )
    overlap: float = setting(
        0.5,
        "Share of a fragment that the next one of the clip has too, in validation and test.",
        flag="--overlap",
        low=0,
        high=0.99,
    )
    padding: str = setting(
        "repeat",
        "What fills up a clip that is shorter than a fragment: the clip again, silence, or its last value.",
        flag="--padding",
        choices=("repeat", "zero", "edge"),
    )


@dataclass(frozen=True)
class AugmentSettings(Section):
    """What is done to a training crop. SpecAugment's masks: Park et al. 2019. Mixup: Zhang et al. 2018.

    Everything after mixup is off until its probability is above 0.
    """

    section: ClassVar[str] = "augment"
    mask_probability: float = setting(
        1.0, "Probability of each mask.", flag="--mask-probability", low=0, high=1, only=FEATURE
    )
    frequency_masks: int = setting(2, "Masks over bins.", low=0, high=16, only=MASK)
    frequency_mask_bins: int = setting(16, "Largest height of a frequency mask, in bins.", low=0, high=512, only=MASK)
    time_masks: int = setting(2, "Masks over time.", low=0, high=16, only=MASK)
    time_mask_seconds: float = setting(0.6, "Largest length of a time mask, in seconds.", low=0, high=60, only=MASK)
    equaliser_db: float = setting(
        10.0,
        "Largest gain of a random tone control, in dB; 0 is off.",
        flag="--equaliser",
        low=0,
        high=60,
        only=LOG_POWER,
    )
    mixup: float = setting(0.2, "Alpha of mixup's Beta distribution; 0 is off.", flag="--mixup", low=0, high=100)
    gain_probability: float = setting(
        0.0, "Probability of a gain of the waveform.", flag="--gain-probability", low=0, high=1, only=WAVE_OR_VARIANTS
    )
    gain_db: float = setting(
        6.0,
        "Largest gain of the waveform either way, in dB.",
        low=0,
        high=60,
        only=_switched_on("gain", WAVE_OR_VARIANTS),
    )
    noise_probability: float = setting(
        0.0,
        "Probability of white noise on the waveform.",
        flag="--noise-probability",
        low=0,
        high=1,
        only=WAVE_OR_VARIANTS,
    )
    noise_snr_low: float = setting(
        20.0, "Lowest signal-to-noise ratio of the white noise, in dB.", low=-60, high=120, only=NOISE
    )
    noise_snr_high: float = setting(
        40.0, "Highest signal-to-noise ratio of the white noise, in dB.", low=-60, high=120, only=NOISE
    )
    wave_mask_probability: float = setting(
        0.0, "Probability of a silence in the waveform.", flag="--wave-mask-probability", low=0, high=1, only=WAVE
    )
    wave_mask_low: float = setting(0.1, "Shortest silence, as a share of the crop.", low=0, high=1, only=WAVE_MASK)
    wave_mask_high: float = setting(0.15, "Longest silence, as a share of the crop.", low=0, high=1, only=WAVE_MASK)
    wave_mask_fade: float = setting(
        0.01, "Length of the fades at a silence's ends, in seconds.", low=0, high=10, only=WAVE_MASK
    )
    amplitude_probability: float = setting(
        0.0, "Probability that the 2-D feature is scaled.", flag="--amplitude-probability", low=0, high=1, only=FEATURE
    )
    amplitude: float = setting(
        0.2,
        "Largest change of the feature's scale, 1 being its own.",
        low=0,
        high=1,
        only=_switched_on("amplitude", FEATURE),
    )
    frequency_shift_probability: float = setting(
        0.0,
        "Probability that the 2-D feature is moved along frequency.",
        flag="--frequency-shift-probability",
        low=0,
        high=1,
        only=FEATURE,
    )
    frequency_shift_bins: int = setting(
        4, "Largest move along frequency, in bins.", low=0, high=512, only=_switched_on("frequency_shift", FEATURE)
    )
    time_shift_probability: float = setting(
        0.0,
        "Probability that the 2-D feature is rolled along time.",
        flag="--time-shift-probability",
        low=0,
        high=1,
        only=FEATURE,
    )
    time_shift: float = setting(
        0.2, "Largest roll along time, as a share of the crop.", low=0, high=1, only=_switched_on("time_shift", FEATURE)
    )
    feature_noise_probability: float = setting(
        0.0, "Probability of noise on the 2-D feature.", flag="--feature-noise-probability", low=0, high=1, only=FEATURE
    )
    feature_noise: float = setting(
        0.015,
        "Standard deviation of that noise, in units of the normalised feature.",
        low=0,
        high=100,
        only=_switched_on("feature_noise", FEATURE),
    )
    variants: int = setting(
        0,
        "Variants of each training clip that are rendered beforehand; crops are of any of them or of the clip itself.",
        flag="--variants",
        low=0,
        high=64,
        only=VARIED,
    )
    stretch_probability: float = setting(
        0.0,
        "Probability that a variant is stretched in time.",
        flag="--stretch-probability",
        low=0,
        high=1,
        only=VARIANTS,
    )
    stretch: float = setting(
        0.1,
        "Largest stretching: 0.1 is from 1 / 1.1 to 1.1 of the length.",
        low=0,
        high=1,
        only=_switched_on("stretch", VARIANTS),
    )
    pitch_probability: float = setting(
        0.0, "Probability that a variant is shifted in pitch.", flag="--pitch-probability", low=0, high=1, only=VARIANTS
    )
    pitch: float = setting(
        1.0, "Largest shift of pitch either way, in semitones.", low=0, high=12, only=_switched_on("pitch", VARIANTS)
    )
    speed_probability: float = setting(
        0.0,
        "Probability that a variant is played at another speed.",
        flag="--speed-probability",
        low=0,
        high=1,
        only=VARIANTS,
    )
    speed: float = setting(
        0.1, "Largest change of speed: 0.1 is from 1 / 1.1 to 1.1.", low=0, high=1, only=_switched_on("speed", VARIANTS)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for low, high in (("noise_snr_low", "noise_snr_high"), ("wave_mask_low", "wave_mask_high")):
            if getattr(self, low) > getattr(self, high):
                raise ConfigError(
                    f"augment.{low} must be at most augment.{high} ({getattr(self, high):g}), "
                    f"not {getattr(self, low):g}."
                )

    def renders(self, inputs: Sequence[Input]) -> bool:
        """Whether anything would make a variant differ, for models of these inputs."""
        names = ("stretch", "pitch", "speed", *(() if "wave" in inputs else ("gain", "noise")))
        return any(getattr(self, f"{name}_probability") for name in names)


@dataclass(frozen=True)
class OptimiserSettings(Section):
    """How weights move."""

    section: ClassVar[str] = "optimiser"
    name: str = setting("adamw", "Optimiser.", flag="--optimizer", choices=("sgd", "adam", "adamw"))
    lr: float = setting(2e-3, "Highest learning rate.", flag="--lr", above=0, high=100)
    momentum: float = setting(
        0.9, "Nesterov momentum.", flag="--momentum", low=0, high=0.9999, applies=("name", ("sgd",))
    )
    weight_decay: float = setting(
        0.05,
        "Weight decay of weight matrices and kernels (never of biases or normalisation).",
        flag="--weight-decay",
        low=0,
        high=10,
    )
    schedule: str = setting("cosine", "Course of the learning rate.", flag="--schedule", choices=SCHEDULES)
    warmup: float = setting(
        0.1,
        "Share of all steps in which the learning rate rises from 0 (one-cycle: from 1/25 of the highest).",
        flag="--warmup",
        low=0,
        high=1,
    )
    final_lr_share: float = setting(
        0.0,
        "Share of the highest learning rate at the end (cosine, linear, one-cycle).",
        flag="--final-lr-share",
        low=0,
        high=1,
        applies=("schedule", ("cosine", "linear", "one-cycle")),
    )
    step_epochs: int = setting(
        10,
        "Epochs between the steps of the learning rate (step, step-plateau).",
        flag="--step-epochs",
        low=1,
        high=100000,
        applies=("schedule", ("step", "step-plateau")),
    )
    step_gamma: float = setting(
        0.7,
        "What a step multiplies the learning rate by (step, step-plateau).",
        flag="--step-gamma",
        above=0,
        high=1,
        applies=("schedule", ("step", "step-plateau")),
    )
    plateau_factor: float = setting(
        0.5,
        "What a plateau multiplies the learning rate by (plateau, step-plateau).",
        flag="--plateau-factor",
        above=0,
        high=1,
        applies=("schedule", ("plateau", "step-plateau")),
    )
    plateau_patience: int = setting(
        3,
        "Epochs without improvement that are borne; the next makes a plateau (plateau, step-plateau).",
        flag="--plateau-patience",
        low=0,
        high=100000,
        applies=("schedule", ("plateau", "step-plateau")),
    )
    plateau_threshold: float = setting(
        1e-4,
        "Change of the validation figure (--select) above which it counts as improved (plateau, step-plateau).",
        flag="--plateau-threshold",
        low=0,
        high=1000,
        applies=("schedule", ("plateau", "step-plateau")),
    )
    l1: float = setting(
        0.0,
        "Factor of the penalty sum |w| in the loss, over weight matrices and kernels.",
        flag="--l1",
        low=0,
        high=1000,
    )
    l2: float = setting(
        0.0,
        "Factor of the penalty sum w^2 in the loss, over weight matrices and kernels.",
        flag="--l2",
        low=0,
        high=1000,
    )
    clip_norm: float = setting(
        0.0, "Largest L2 norm of all gradients together; 0 is off.", flag="--clip-norm", low=0, high=1e6
    )


@dataclass(frozen=True)
class TrainingSettings(Section):
    """The loop."""

    section: ClassVar[str] = "training"
    seed: int = setting(0, "Seed of the run.", flag="--seed", low=0, high=MAX_SEED)
    epochs: int = setting(30, "Epochs; 0 writes the initial weights and stops.", flag="--epochs", low=0, high=100000)
    label_smoothing: float = setting(0.1, "Label smoothing.", flag="--label-smoothing", low=0, high=0.99)
    select: str = setting(
        "cross_entropy",
        "The validation figure, per clip, that chooses the best epoch, stops early and tells a plateau.",
        flag="--select",
        choices=("cross_entropy", "accuracy", "f1_macro"),
    )
    patience: int = setting(
        0,
        "Epochs in a row without improvement after which training stops early; 0 is never.",
        flag="--patience",
        low=0,
        high=100000,
    )
    minimum_change: float = setting(
        0.0,
        "Change of the validation figure above which --patience counts it as improved.",
        flag="--minimum-change",
        low=0,
        high=1000,
        only=PATIENCE,
    )
    class_weights: str = setting(
        "none",
        "Weights of the genres in the loss; balanced is training clips / (genres x clips of the genre).",
        flag="--class-weights",
        choices=("none", "balanced"),
    )
    initialisation: str = setting(
        "default",
        "First weights: kaiming (He et al. 2015, fan-in) and xavier (Glorot and Bengio 2010) are uniform in every "
        "layer; default is Kaiming by fan-out for convolutions and PyTorch's bounds for others.",
        flag="--initialisation",
        choices=("default", "kaiming", "xavier"),
    )


@dataclass(frozen=True)
class ComputeSettings(Section):
    """Where and how exactly the sums are done."""

    section: ClassVar[str] = "compute"
    device: str = setting("auto", "Where to train.", flag="--device", choices=("auto", "cpu", "cuda"))
    kernels: str = setting(
        PORTABLE,
        "Instructions of the CPU: portable kernels come to the same bits on every x86-64 processor with AVX2, native "
        "ones are faster, with the bits of one kind of processor.",
        flag="--kernels",
        choices=(PORTABLE, NATIVE),
    )
    precision: str = setting(
        "auto",
        "Precision of training; auto is fp32 with portable kernels, else bf16 where the processor has it natively. "
        "Evaluation is in fp32.",
        flag="--precision",
        choices=("auto", "fp32", "bf16"),
    )
    threads: int = setting(
        0,
        "CPU threads of a process.",
        flag="--threads",
        low=0,
        high=1024,
        shown=f"{THREADS} with portable kernels, else one for each core, which torchrun's processes share",
    )
    deterministic: str = setting(
        "error",
        "What to do about operations without a deterministic kernel.",
        flag="--deterministic",
        choices=("error", "warn", "off"),
    )
    resident_limit: float = setting(
        0.0,
        "Memory for a corpus's arrays, in MiB; those beyond it are read from the disk, batch by batch.",
        flag="--resident-limit",
        low=0,
        high=1e9,
        shown="60 % of what is free",
        changes_bits=False,
    )
    ranks: int = setting(1, "Processes that train together: as many as torchrun starts.", low=1, high=65536)


@dataclass(frozen=True)
class ModelSettings(Section):
    """Base of every model's config. name: as in `--model`, set by the registry."""

    section: ClassVar[str] = "model"
    name: ClassVar[str] = ""

    @property
    def inputs(self) -> tuple[Input, ...]:
        """What the model takes of a fragment with these settings: one or both, "wave" first."""
        return ("feature",)

    @classmethod
    def _owner(cls) -> str:
        return f" of the model {cls.name}"


@dataclass(frozen=True)
class Config:
    """All settings of a run."""

    model: ModelSettings
    dataset: DatasetSettings = field(default_factory=DatasetSettings)
    split: SplitSettings = field(default_factory=SplitSettings)
    features: FeatureSettings = field(default_factory=FeatureSettings)
    batches: BatchSettings = field(default_factory=BatchSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    compute: ComputeSettings = field(default_factory=ComputeSettings)

    def sections(self) -> Iterator[Section]:
        """The sections in their order of writing."""
        for name in SECTIONS:
            yield getattr(self, name)

    def values(self) -> Nested:
        """Every setting that applies, nested by section: what `config.toml` holds."""
        nested: Nested = {section.section: section.values() for section in self.sections()}
        for section in self.sections():
            for each, known in described(type(section)):
                if known.only is not None and not known.only.holds(self):
                    nested[section.section].pop(each.name, None)
        nested["model"] = {"name": self.model.name, **nested["model"]}
        return nested

    @property
    def frames(self) -> int:
        """The length of a fragment in frames."""
        return self.features.frames(self.batches.fragment)

    @property
    def samples(self) -> int:
        """The length of a fragment in samples."""
        return max(1, round(self.batches.fragment * self.features.sample_rate))


SECTIONS: dict[str, type[Section]] = {
    "dataset": DatasetSettings,
    "split": SplitSettings,
    "features": FeatureSettings,
    "batches": BatchSettings,
    "model": ModelSettings,
    "augment": AugmentSettings,
    "optimiser": OptimiserSettings,
    "training": TrainingSettings,
    "compute": ComputeSettings,
}


def read(raw: Mapping[str, Any], model: Callable[[str], type[ModelSettings]]) -> Config:
    """Check nested settings and fill in defaults.

    model: gives the config class of a model's name. Raises ConfigError that names the setting.
    """
    config = _made(raw, model)
    check(config)
    return config


def _made(raw: Mapping[str, Any], model: Callable[[str], type[ModelSettings]]) -> Config:
    """The sections, each checked by itself."""
    check_sections(raw)
    sections = {name: dict(raw.get(name, {})) for name in SECTIONS}
    kinds = _classes(raw, model)
    sections["model"].pop("name", None)
    return Config(**{name: kind.read(sections[name]) for name, kind in kinds.items()})  # type: ignore[arg-type]


def _classes(raw: Mapping[str, Any], model: Callable[[str], type[ModelSettings]]) -> dict[str, type[Section]]:
    """The class of each section, that of the chosen model's last, so that its errors come last."""
    chosen = raw.get("model", {}).get("name", DEFAULT_MODEL)
    if type(chosen) is not str:
        raise ConfigError(f"model.name (--model) must be a text, not {chosen!r}.")
    others = {name: kind for name, kind in SECTIONS.items() if name != "model"}
    return {**others, "model": model(chosen)}


def check(config: Config) -> None:
    """Raise ConfigError where sections do not go together.

    That is where a setting is neither at its default nor 0, and without a meaning beside the others, or where a 2-D
    feature would not see all samples.
    """
    features = config.features
    if FEATURE.holds(config) and features.hop_length > features.n_fft:
        raise ConfigError(
            f"features.hop_length (--hop-length) must be at most features.n_fft (--n-fft {features.n_fft}), "
            f"not {features.hop_length}: samples between the windows would be lost."
        )
    for section, each, flag, only in _meaningless(config):
        if getattr(section, each.name) not in (each.default, 0):
            raise ConfigError(
                f"{section.section}.{each.name}{flag} applies only to {only.words}, which is not so for "
                f"{config.model.name} with the other settings: leave it out."
            )


def _meaningless(config: Config) -> Iterator[tuple[Section, "dataclasses.Field[Any]", str, Condition]]:
    """Section, field, flag (" (--flag)" or nothing) and condition of the settings whose condition does not hold."""
    for section in config.sections():
        for each, known in described(type(section)):
            if known.only is not None and not known.only.holds(config):
                yield section, each, f" ({known.flag})" if known.flag else "", known.only


def inherit(base: Nested, stated: Nested, model: Callable[[str], type[ModelSettings]]) -> Nested:
    """`stated` over those settings of `base` that still have a meaning beside it.

    What `stated` made meaningless is left out: the momentum of a base with SGD beside a stated Adam, the settings of
    the model that a stated one replaces, or those of such a corpus, its published split included.
    Raises ConfigError for a wrong value.
    """
    check_sections(stated)
    own = DatasetSettings.read(base.get("dataset", {})).name
    if stated.get("dataset", {}).get("name", own) != own:
        base = {**base, "dataset": {}}
        if base.get("split", {}).get("policy") in PUBLISHED:
            base["split"] = {}
    own = base.get("model", {}).get("name", DEFAULT_MODEL)
    if stated.get("model", {}).get("name", own) != own:
        base = {**base, "model": {}}
    kinds = _classes(overlay(base, stated), model)
    kept = {name: kinds[name].inherited(fields, stated.get(name, {})) for name, fields in base.items()}
    if "name" in base.get("model", {}):
        kept["model"]["name"] = base["model"]["name"]
    while True:
        merged = overlay(kept, stated)
        idle = [
            (section.section, each.name)
            for section, each, *_ in _meaningless(_made(merged, model))
            if each.name in kept.get(section.section, {}) and each.name not in stated.get(section.section, {})
        ]
        if not idle:
            return merged
        for section_name, name in idle:
            del kept[section_name][name]


def check_sections(raw: Mapping[str, Any]) -> None:
    """Raise ConfigError where `raw` holds something that is no known section of settings."""
    for name, fields in raw.items():
        if name not in SECTIONS:
            raise ConfigError(
                f"Unknown section {name!r} of settings{suggestion(name, SECTIONS)}: there are {', '.join(SECTIONS)}."
            )
        if not isinstance(fields, Mapping):
            raise ConfigError(f"{name!r} must be a section of settings ([{name}] in a recipe), not {fields!r}.")


def overlay(*layers: Mapping[str, Mapping[str, Any]]) -> Nested:
    """Nested settings, later layers over earlier ones."""
    merged: Nested = {}
    for layer in layers:
        for section, fields in layer.items():
            merged.setdefault(section, {}).update(fields)
    return merged


def fields() -> Iterator[tuple[str, "dataclasses.Field[Any]", Setting]]:
    """Section name, field and description of every setting outside the section `model`."""
    for name, kind in SECTIONS.items():
        for each, known in described(kind):
            yield name, each, known
