"""MRdIB: what its terms remove, and what they leave."""

import pytest
import torch

from recbole_ib.bottleneck import LogVarianceHead, gaussian_information, gaussian_kl, reparameterize
from tests.support.mrdib import OFF, bottleneck
from tests.support.training import fit


def test_kl_keeps_what_the_target_needs_and_drops_the_rest():
    """The variational bottleneck on known factors: four of eight are needed, all eight are in the features."""
    shares = {}
    for weight in (0.0, 0.005):
        torch.manual_seed(0)
        x = torch.randn(600, 8) @ torch.linalg.qr(torch.randn(8, 8))[0]
        basis = torch.linalg.qr(torch.randn(8, 8))[0]
        factors = x @ basis
        target = factors[:, :4] @ torch.randn(4, 4)
        mean, head, decoder = torch.nn.Linear(8, 6), LogVarianceHead(8, 6, initial=-4.0), torch.nn.Linear(6, 4)
        parameters = [p for module in (mean, head, decoder) for p in module.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=0.02)
        for _ in range(600):
            mu, log_variance = mean(x), head(x)
            loss = (decoder(reparameterize(mu, log_variance)) - target).square().mean()
            loss = loss + weight * gaussian_kl(mu, log_variance).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            # mu is linear in the factors: its variance by factor
            moved = (mean.weight @ basis).square().sum(dim=0)
            shares[weight] = float(moved[4:].sum() / moved.sum())
            assert float((decoder(mean(x)) - target).square().mean() / target.var()) < 0.01
    # noise alone, which costs something wherever the decoder listens, leaves some
    assert shares[0.0] > 0.01
    assert shares[0.005] < 0.2 * shares[0.0]


@pytest.mark.parametrize("name", ["MRdIBVBPR", "MRdIBMGCN"])
def test_more_weight_on_kl_lets_less_through(paper, name):
    nats = []
    for weight in (1e-4, 1e-1):
        settings = {**OFF, "kl_weight": weight, "epochs": 30, "learning_rate": 0.01, "initial_noise": 0.5, "stopping_step": 100}
        config, model, train, _, _ = paper(name, **settings)
        fit(config, model, train, None)
        model.eval()
        with torch.no_grad():
            state = bottleneck(model).diagnostics(model, torch.arange(1, model.n_items))
        nats.append(float(state["kl/text"] + state["kl/visual"]))
    assert nats[1] < 0.7 * nats[0]


@pytest.mark.parametrize("estimator", ["club", "hsic"])
def test_redundancy_makes_the_modalities_tell_different_things(paper, told_twice, estimator):
    """With a weight on what the modalities share, the latents share less of the group, and still rank by it."""
    shared = {}
    for weight in (0.0, 0.3):
        settings = {**OFF, "redundancy_weight": weight, "redundancy_estimator": estimator, "embedding_size": 8}
        settings |= {"epochs": 60, "learning_rate": 0.01, "stopping_step": 100}
        config, model, train, valid, _ = paper("MRdIBVBPR", **told_twice, **settings)
        trainer = fit(config, model, train, valid)
        latents = model.eval().encoder.parts(torch.arange(1, model.n_items))
        shared[weight] = float(gaussian_information(latents["text"], latents["visual"], ridge=0.05))
        assert trainer.best_valid_score > 0.9
    assert shared[0.3] < 0.8 * shared[0.0]
