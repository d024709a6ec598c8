"""Keyed draws have pinned values, no pattern and no state; every switch of determinism is set."""

import os
from typing import Any

import numpy as np
import pytest
import torch
from conftest import FORKS

from genrecls.keyed import keyed_uniform, keyed_uniforms
from genrecls.models.dropout import Dropout, begin_step
from genrecls.seeding import derived_key, generator, hash64, make_deterministic, name_key, name_keys, switches, uniform
from genrecls.settings import MAX_SEED


def test_golden_keys() -> None:
    assert [name_key(name) for name in ("blues.00000", "", "ü")] == [
        14736195867842083719,
        13020603013274838756,
        3976460501203677525,
    ]
    assert hash64(1, np.array([0, 1, 2**64 - 1], dtype=np.uint64)).tolist() == [
        0x5E41AB087439611E,
        0xE9FD6049D65AF21E,
        0xA562DF66C82C649A,
    ]
    assert derived_key(42, "init", "head.weight") == 16923054899389704496


def test_golden_draws() -> None:
    clips = name_keys(["blues.00000", "rock.00099"])
    assert uniform(42, "order", 0, clips, np.array([[0], [1]])).tolist() == [
        [0.02316946564024336, 0.384759342900706],
        [0.014372920641925524, 0.2799510580395401],
    ]
    assert float(uniform(2**63 - 1, "crop", 3, name_key("x"), 7)) == 0.544558386986801


def test_golden_first_values_of_generators_and_masks() -> None:
    assert torch.rand(3, generator=generator(42, "init", "head.weight")).tolist() == [
        0.952187180519104,
        0.22304338216781616,
        0.8380740880966187,
    ]
    key = derived_key(42, "dropout", "dropout", 0, 0)
    assert keyed_uniform((5,), key, torch.device("cpu")).tolist() == [
        0.3125750422477722,
        0.6736944317817688,
        0.05050450563430786,
        0.3778509497642517,
        0.8411756157875061,
    ]


def test_the_batched_values_are_those_of_each_key() -> None:
    keys = hash64(np.arange(5))
    made = keyed_uniforms(keys, (3, 50), torch.device("cpu"))
    for key, row in zip(keys.tolist(), made, strict=True):
        assert torch.equal(row, keyed_uniform((3, 50), key, torch.device("cpu")))
    assert torch.equal(keyed_uniforms(keys[3:4], (3, 50), torch.device("cpu"))[0], made[3])


def test_a_draw_depends_on_its_clip_and_not_on_the_others() -> None:
    names = [f"clip{i}" for i in range(50)]
    together = uniform(7, "crop", 2, name_keys(names))
    assert together.tolist() == [float(uniform(7, "crop", 2, name_key(name))) for name in names]
    assert together[::-1].tolist() == uniform(7, "crop", 2, name_keys(names[::-1])).tolist()


@pytest.mark.parametrize(
    "other",
    [(8, "crop", 2, 3), (7, "order", 2, 3), (7, "crop", 3, 3), (7, "crop", 2, 4)],
    ids=["seed", "stream", "epoch", "k"],
)
def test_each_argument_gives_another_independent_draw(other: tuple[int, str, int, int]) -> None:
    clips = name_keys(f"clip{i}" for i in range(20000))
    seed, stream, epoch, k = other
    one, two = uniform(7, "crop", 2, clips, 3), uniform(seed, stream, epoch, clips, k)
    # The correlation of independent draws has a standard deviation of 1 / sqrt(20000) = 0.007.
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.03


def test_draws_are_uniform() -> None:
    draws = uniform(0, "order", 0, name_keys(f"clip{i}" for i in range(100000)), 0)
    assert draws.min() >= 0
    assert draws.max() < 1
    counts = np.histogram(draws, bins=100, range=(0, 1))[0]
    # Chi-squared with 99 degrees of freedom: 99 +- 14.
    assert 50 < ((counts - 1000) ** 2 / 1000).sum() < 160


def test_dropout_keeps_the_share_it_should_and_scales() -> None:
    dropout = Dropout(0.3)
    begin_step(torch.nn.ModuleDict({"a": dropout}), seed=1, step=0)
    out = dropout(torch.ones(400, 500))
    assert abs(float((out == 0).float().mean()) - 0.3) < 0.005
    assert torch.unique(out).tolist() == [0.0, pytest.approx(1 / 0.7)]
    assert (dropout.eval()(torch.ones(3)) == 1).all()


def test_dropout_masks_depend_on_seed_name_step_and_rank_alone() -> None:
    def mask(seed: int, name: str, step: int, rank: int, p: float = 0.5) -> list[bool]:
        dropout = Dropout(p)
        begin_step(torch.nn.ModuleDict({name: dropout}), seed, step, rank)
        return (dropout(torch.ones(1000)) == 0).tolist()

    usual = mask(1, "a", 5, 0)
    assert mask(1, "a", 5, 0) == usual
    assert all(mask(*other) != usual for other in [(2, "a", 5, 0), (1, "b", 5, 0), (1, "a", 6, 0), (1, "a", 5, 1)])
    weaker = mask(1, "a", 5, 0, p=0.2)
    assert all(whole for part, whole in zip(weaker, usual, strict=True) if part)


def test_dropout_without_a_step_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="begin_step"):
        Dropout(0.5).train()(torch.ones(2))


def _switched(mode: str, threads: int, environment: dict[str, str], answer: Any) -> None:
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
    os.environ.update(environment)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cuda.matmul.allow_tf32 = True
    made = make_deterministic(mode, threads)
    answer.put((made, switches(), os.environ.get("CUBLAS_WORKSPACE_CONFIG")))


def switched(mode: str, threads: int = 1, **environment: str) -> dict[str, Any]:
    answer = FORKS.SimpleQueue()
    process = FORKS.Process(target=_switched, args=(mode, threads, environment, answer))
    process.start()
    returned, standing, workspace = answer.get()
    process.join()
    assert returned == standing
    assert returned["cublas_workspace_config"] == workspace
    found: dict[str, Any] = standing
    return found


@pytest.mark.parametrize(
    ("switch", "value"),
    [
        ("deterministic_algorithms", True),
        ("deterministic_warn_only", False),
        ("cudnn_benchmark", False),
        ("cudnn_deterministic", True),
        ("cudnn_allow_tf32", False),
        ("matmul_allow_tf32", False),
        ("matmul_bf16_reduced_precision", False),
        ("cublas_workspace_config", ":4096:8"),
        ("threads", 2),
    ],
)
def test_each_switch_of_error_mode(switch: str, value: object) -> None:
    assert switched("error", threads=2)[switch] == value


def test_warn_mode_warns_only() -> None:
    found = switched("warn")
    assert found["deterministic_algorithms"] is True
    assert found["deterministic_warn_only"] is True


def test_off_mode_leaves_algorithms_alone_but_not_precision() -> None:
    found = switched("off")
    assert found["deterministic_algorithms"] is False
    assert found["cudnn_deterministic"] is False
    assert found["cublas_workspace_config"] is None
    assert found["cudnn_allow_tf32"] is False
    assert found["matmul_allow_tf32"] is False


def test_the_workspace_that_a_user_set_stays() -> None:
    assert switched("error", CUBLAS_WORKSPACE_CONFIG=":16:8")["cublas_workspace_config"] == ":16:8"


def test_error_mode_refuses_an_operation_without_a_deterministic_kernel() -> None:
    answer = FORKS.SimpleQueue()
    process = FORKS.Process(target=_put_without_kernel, args=(answer,))
    process.start()
    message = answer.get()
    process.join()
    assert "does not have a deterministic implementation" in message


def _put_without_kernel(answer: Any) -> None:
    make_deterministic("error", 1)
    try:
        torch.zeros(4).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]), accumulate=False)
    except RuntimeError as error:
        answer.put(str(error))
    else:
        answer.put("nothing was raised")


def test_the_largest_seed_is_the_documented_one() -> None:
    assert MAX_SEED == 2**63 - 1
    assert 0 <= float(uniform(MAX_SEED, "order", 0, 0)) < 1
