"""``enable_amp``: training steps multiply in bfloat16, and nothing else does."""

import copy
import pickle

import pytest
import torch
from recbole.utils import get_trainer
from torch.utils._python_dispatch import TorchDispatchMode

from recbole_ib.bottleneck import ConstantKernel, kernels
from recbole_ib.errors import CheckpointError, ConfigurationError
from recbole_ib.graph import cosine_knn, knn
from recbole_ib.model.layers.encoder import LinearEncoder
from recbole_ib.ops import linear as linear_module
from recbole_ib.ops.linear import is_mixed, linear, mixed
from recbole_ib.training import invrl_trainer, trainer
from recbole_ib.training.trainer import MultimodalTrainer
from tests.support.bottlenecks import PAPER_IBMREC
from tests.support.mrdib import PAPER_MRDIB
from tests.support.training import STAGES, first_batch, fit, scores_of

#: half the spacing of bfloat16's numbers around 1, which have 8 bits: no rounding is off by more, relatively
ROUNDING = 2.0**-8
CPU = torch.device("cpu")


class Rounding(TorchDispatchMode):
    """A processor that rounds to bfloat16 what products of float32 read where torch lets it; a real one may, or may not."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        # where the two factors stand
        first = {"mm": 0, "addmm": 1, "addmm_": 1}.get(function.overloadpacket.__name__)
        if first is not None and torch.get_float32_matmul_precision() == "medium":
            here = slice(first, first + 2)
            args = (*args[:first], *(factor.bfloat16().to(factor.dtype) for factor in args[here]), *args[here.stop :])
        return function(*args, **(kwargs or {}))


@pytest.fixture
def bfloat16(monkeypatch):
    """Products of bfloat16 on processors that would be slower with them, and of narrow rows, too."""
    monkeypatch.setattr(linear_module, "has_bfloat16", lambda device: True)
    # the tests' features are narrow and few
    monkeypatch.setattr(linear_module, "MIXED_WIDTH", 1)
    monkeypatch.setattr(linear_module, "ROWS_AT_ONCE", 8)


# -- the block --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", ["highest", "high"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_block_leaves_torchs_setting_as_it_was(own, device):
    """torch's global setting is a GPU's affair: on a CPU it would reach every product of the process."""
    inside = "medium" if device == "cuda" else own

    def now():
        return is_mixed(), torch.get_float32_matmul_precision()

    torch.set_float32_matmul_precision(own)
    try:
        with mixed(False, device):
            assert now() == (False, own)
        with mixed(True, device):
            assert now() == (True, inside)
            with mixed(False):
                assert now() == (False, own)
                with mixed(True, device):
                    assert now() == (True, inside)
                assert now() == (False, own)
            assert now() == (True, inside)
        assert now() == (False, own)
        with pytest.raises(KeyError), mixed(True, device), mixed(False):
            raise KeyError
        assert now() == (False, own)
    finally:
        torch.set_float32_matmul_precision("highest")


def test_where_nothing_is_mixed_torchs_setting_is_not_even_read(monkeypatch):
    """It cannot be, in a process that uses torch's newer settings."""

    def refuse(*_):
        raise RuntimeError("mix of the legacy and new APIs")

    monkeypatch.setattr(torch, "get_float32_matmul_precision", refuse)
    monkeypatch.setattr(torch, "set_float32_matmul_precision", refuse)
    with mixed(False, "cuda"), mixed(True, "cpu"):
        cosine_knn(torch.randn(20, 4), 3)


@pytest.mark.parametrize("kept", ["neighbors", "kernel"])
def test_what_outlives_a_step_is_computed_in_float32(kept, monkeypatch):
    torch.manual_seed(0)
    rows, seen = torch.randn(300, 64), []

    def compute():
        if kept == "neighbors":
            return cosine_knn(rows, 10)[0]
        kernel = ConstantKernel(0.2)
        kernel.compute(rows)
        return kernel.of(torch.arange(300))

    expected = compute()
    for module, name in ((kernels, "unit_kernel"), (knn, "_unit")):
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, f=original: seen.append(torch.get_float32_matmul_precision()) or f(*a))
    with mixed(True, "cuda"):
        assert torch.equal(compute(), expected)
    assert set(seen) == {"highest"}


# -- the product ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
def test_wide_rows_are_multiplied_as_by_torch(bias, monkeypatch):
    """More rows than a block of the gradient's sum, and not a multiple of it; gradients of both orders."""
    monkeypatch.setattr(linear_module, "WIDE", 5)
    monkeypatch.setattr(linear_module, "ROWS_AT_ONCE", 4)
    torch.manual_seed(0)
    inputs = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((11, 6), (3, 6), (3,))[: 2 + bias]]
    weight = torch.randn(11, 3, dtype=torch.float64)
    y = linear(*inputs)
    assert "_Rows" in type(y.grad_fn).__name__
    torch.testing.assert_close(y, torch.nn.functional.linear(*inputs))
    expected = torch.autograd.grad((torch.nn.functional.linear(*inputs) * weight).sum(), inputs)
    for got, want in zip(torch.autograd.grad((y * weight).sum(), inputs), expected, strict=True):
        torch.testing.assert_close(got, want)
    assert torch.autograd.gradgradcheck(lambda *given: linear(*given).tanh(), inputs)
    with torch.no_grad():
        torch.testing.assert_close(linear(*inputs), torch.nn.functional.linear(*inputs))


def test_the_product_and_its_gradients_are_within_bfloat16s_rounding():
    torch.manual_seed(0)
    x, weight, bias = torch.randn(50, 300), torch.randn(7, 300), torch.randn(7)
    half, grad = x.bfloat16(), torch.randn(50, 7)
    parameters = [weight.clone().requires_grad_(), bias.clone().requires_grad_()]
    y = linear(half, *parameters)
    y.backward(grad)
    y = y.detach()
    assert y.dtype == parameters[0].grad.dtype == torch.float32
    # both factors and the sum are rounded; float32's own rounding is what the last .1 is for
    for found, a, b in ((y - bias, x, weight.T), (parameters[0].grad, grad.T, x)):
        off = (found.double() - a.double() @ b.double()).abs()
        assert bool((off <= 3.1 * ROUNDING * (a.abs().double() @ b.abs().double())).all())
        assert float(off.max()) > 0
    torch.testing.assert_close(parameters[1].grad, grad.sum(dim=0))
    with pytest.raises(ValueError, match="they take no gradient"):
        linear(half.requires_grad_(), weight)


@pytest.mark.parametrize("rows", [3, 8, 11])
def test_rows_in_blocks_are_within_bfloat16s_rounding_too(bfloat16, monkeypatch, rows):
    """Trained rows in a mixed step; the rest after whole blocks is float32."""
    monkeypatch.setattr(linear_module, "MIXED_WIDTH", 5)
    monkeypatch.setattr(linear_module, "ROWS_AT_ONCE", 4)
    torch.manual_seed(0)
    x, weight, grad = torch.randn(rows, 6, requires_grad=True), torch.randn(3, 6, requires_grad=True), torch.randn(rows, 3)
    with mixed():
        y = linear(x, weight)
        y.backward(grad)
    assert torch.get_float32_matmul_precision() == "highest"
    for found, a, b in ((y, x, weight.T), (x.grad, grad, weight), (weight.grad, grad.T, x)):
        off = (found.double() - a.double() @ b.double()).abs()
        assert bool((off <= 3.1 * ROUNDING * (a.abs().double() @ b.abs().double())).all())
    torch.testing.assert_close(y[rows - rows % 4 :], x[rows - rows % 4 :] @ weight.T)


def test_the_gradient_of_constant_rows_has_a_gradient():
    weight, x = torch.randn(3, 5, requires_grad=True), torch.randn(4, 5).bfloat16()
    second = []
    for product in (linear(x, weight), x.float() @ weight.T):
        (grad,) = torch.autograd.grad(product.square().sum(), weight, create_graph=True)
        second.append(torch.autograd.grad(grad.square().sum(), weight)[0])
    torch.testing.assert_close(*second, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("items", [None, torch.tensor([4, 1, 4])])
def test_projections_read_a_copy_of_constant_tables_in_bfloat16(bfloat16, items):
    torch.manual_seed(0)
    module = LinearEncoder({"text": torch.randn(6, 30)}, 2)
    exact, state = module(items)["text"], set(module.state_dict())
    with mixed():
        rounded = module(items)["text"]
        read = module.inputs("text", items)
        assert module.inputs("text", items).data_ptr() == read.data_ptr()
        assert torch.equal(module.rows("text", items), module.rows("text", items).float())
    assert read.dtype == torch.bfloat16
    assert torch.equal(read, module.rows("text", items).bfloat16())
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=0, atol=0.05)
    assert set(module.state_dict()) == state
    for copied in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert copied._copies == {}
        with mixed():
            assert torch.equal(copied(items)["text"], rounded)
    assert module.inputs("text", items).dtype == torch.float32
    module.features_text.mul_(2)
    module.train()
    with mixed():
        assert torch.equal(module.inputs("text", items), 2 * read)


@pytest.mark.parametrize(("dtype", "tuned"), [(torch.float32, True), (torch.float16, False)])
def test_trained_and_float16_tables_have_no_copy(bfloat16, dtype, tuned):
    module = LinearEncoder({"text": torch.randn(6, 3).to(dtype)}, 2, tuned=tuned)
    with mixed():
        assert module.inputs("text", None).dtype == torch.float32
        module()
    assert module._copies == {}


# -- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((name, {}) for name in ("VBPR", "IBMRec", "MGCN", "MRdIBVBPR", "MMGCN", "GRCN", "SGFD", "InvRL")),
        ("IBMRec", PAPER_IBMREC),
        ("MRdIBVBPR", PAPER_MRDIB),
    ],
)
def test_a_step_is_nearly_that_of_float32(build, bfloat16, name, settings):
    found = []
    for amp in (False, True):
        config, model, train, _, _ = build(name, enable_amp=amp, **settings)
        run = get_trainer(config["MODEL_TYPE"], name)(config, model)
        share = run.processes.share(first_batch(train), CPU)
        model.train()
        model.pre_epoch(0)
        for phase in model.phases():
            torch.manual_seed(0)
            # the same weights in both runs
            run.optimizers[phase.name].step = lambda: None
            with Rounding():
                losses = run._step(phase, share)
            gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
            found.append((phase.name, torch.stack(list(losses.values())), gradients))
    half = len(found) // 2
    for (phase, losses, gradients), (_, rounded, others) in zip(found[:half], found[half:], strict=True):
        torch.testing.assert_close(rounded, losses, rtol=0.01, atol=1e-6, msg=f"{phase}: {losses}, {rounded}")
        assert float(torch.cosine_similarity(gradients, others, dim=0)) > 0.99
        # rounded indeed, also where trained tables have no copy in bfloat16; sums in another order differ by 1e-7
        assert float((others - gradients).norm()) > 1e-5 * float(gradients.norm())


def noted(monkeypatch, owner, name, seen):
    """From now on ``owner.name`` puts into ``seen`` whether it is called in a mixed block."""
    original = getattr(owner, name)

    def call(*args):
        seen.setdefault(name, set()).add(is_mixed())
        return original(*args)

    monkeypatch.setattr(owner, name, call)


@pytest.mark.parametrize("name", ["VBPR", "IBMRec"])
def test_it_learns_and_what_is_no_step_is_float32(build, bfloat16, name, monkeypatch):
    settings = {"epochs": 20, "learning_rate": 0.01, "embedding_size": 16, "stopping_step": 100, "topk": [5]}
    settings["valid_metric"] = "Recall@5"
    recalls = []
    for amp in (False, True):
        config, model, train, valid, _ = build(name, enable_amp=amp, **settings)
        seen, backward = {}, set()
        noted(monkeypatch, model, "calculate_loss", seen)
        noted(monkeypatch, model, "full_sort_predict", seen)
        model.item_embedding.weight.register_hook(lambda grad, backward=backward: backward.add(is_mixed()))
        recalls.append(float(fit(config, model, train, valid).best_valid_score))
        assert seen == {"calculate_loss": {amp}, "full_sort_predict": {False}}
        assert backward == {amp}
        assert torch.get_float32_matmul_precision() == "highest"
    # by chance some .1: 5 of the 50 items that a user has not taken
    assert recalls[1] > 0.5
    assert recalls[1] == pytest.approx(recalls[0], abs=0.05)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    _, fresh, _, _, _ = build(name, **settings)
    fresh.load_state_dict(model.state_dict())
    users = torch.arange(1, 9)
    assert torch.equal(scores_of(model, config, users), scores_of(fresh, config, users))


def test_invrl_learns_its_mask_in_float32(build, monkeypatch):
    seen = {}
    noted(monkeypatch, invrl_trainer, "mask_loss", seen)
    noted(monkeypatch, invrl_trainer, "variant_penalty", seen)
    config, model, train, _, _ = build("InvRL", enable_amp=True, epochs=1, **STAGES["InvRL"])
    fit(config, model, train, None)
    assert seen == {"mask_loss": {False}, "variant_penalty": {True}}


def test_a_scaler_is_refused(build):
    config, model, _, _, _ = build("VBPR", enable_amp=True, enable_scaler=True)
    with pytest.raises(ConfigurationError, match="enable_scaler is refused for VBPR"):
        MultimodalTrainer(config, model)


def test_a_processor_without_bfloat16_is_named(build, monkeypatch, caplog):
    config, model, _, _, _ = build("VBPR", enable_amp=True)
    monkeypatch.setattr(trainer, "has_bfloat16", lambda device: False)
    MultimodalTrainer(config, model)
    assert "enable_amp: cpu has no fast bfloat16 products" in caplog.text


def test_a_run_is_not_continued_in_the_other_precision(build):
    config, model, train, valid, _ = build("VBPR", epochs=1)
    first = MultimodalTrainer(config, model)
    first.fit(train, valid, verbose=False)
    config, model, _, _, _ = build("VBPR", epochs=2, enable_amp=True)
    with pytest.raises(CheckpointError, match="enable_amp: False then, True now"):
        MultimodalTrainer(config, model).resume_checkpoint(first.saved_model_file)
