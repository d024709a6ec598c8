"""`train` says where native kernels would be much faster, and where portable ones do not apply."""

from dataclasses import replace

import pytest
from conftest import Desk

from genrecls import advice, config
from genrecls.config import Config
from genrecls.models.registry import entries, settings_class


def resolved(model: str = "se-resnet", **compute: object) -> Config:
    made = config.read({"model": {"name": model}}, settings_class)
    given = {"device": "cpu", "precision": "fp32", "threads": 2, **compute}
    return replace(made, compute=replace(made.compute, **given))  # type: ignore[arg-type]


def test_more_cores_than_threads_are_worth_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advice, "STEP", {"se-resnet": 1.25})
    assert advice.advice(resolved(), cores=1) == advice.advice(resolved(), cores=2) == ""
    assert advice.advice(resolved(), cores=8) == (
        "With --kernels native se-resnet would train up to 5.0 times as fast on this machine, as another run, whose "
        "figures can be had again on this kind of processor alone."
    )
    assert advice.advice(resolved(kernels="native"), cores=8) == ""
    assert advice.advice(resolved(threads=1), cores=8) == ""


def test_a_model_that_pays_more_is_named_on_any_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advice, "STEP", {"mlp": 2.0})
    assert "mlp would train up to 2.0 times as fast" in advice.advice(resolved("mlp"), cores=1)
    assert advice.advice(resolved("cel"), cores=1) == ""


def test_on_a_gpu_it_is_said_what_is_not_promised() -> None:
    assert advice.advice(resolved(device="cuda"), cores=8).startswith(
        "Portable kernels hold for what is done on the CPU"
    )


def test_what_was_measured_are_models() -> None:
    assert advice.STEP.keys() <= entries().keys()
    assert all(0.5 < factor < 20 for factor in advice.STEP.values())


def test_train_says_it_once_and_not_of_a_run_that_is_found(desk: Desk) -> None:
    given = ("train", *desk.on_corpus, "--model", "mlp", "--epochs", "1", "--threads", "1")
    first = desk.cli(*given, *desk.places)
    expected = advice.advice(resolved("mlp", threads=1))
    assert first.stderr.count("--kernels native") == (1 if expected else 0)
    assert "--kernels native" not in desk.cli(*given, *desk.places).stderr
