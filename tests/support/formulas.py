"""The papers' formulas a second time: dense matrices and loops, slow and plain."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F


def array(x):
    return x.detach().double().numpy()


def unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def linear(layer, x):
    return x @ array(layer.weight).T + array(layer.bias)


def projected(model, name):
    """W x + b of every item's features, float64."""
    layer = model.encoder.linear[name]
    return model.encoder.table(name).double() @ layer.weight.double().T + layer.bias.double()


def dense(graph):
    """The weights of an EdgeGraph, float32 ``[n, n]``, without gradient."""
    n = graph.structure.n_nodes
    out = torch.zeros(n, n)
    out[graph.structure.rows, graph.structure.cols] = graph.weights.detach()
    return out


def interactions(train):
    """R ``[U, N]`` of 0 and 1."""
    return (train._dataset.inter_matrix(form="csr").toarray() > 0).astype(float)


def dense_adjacency(r):
    """D^-1/2 A D^-1/2 of R ``[U, N]``, float64, by loops over the edges."""
    n_users = r.shape[0]
    a = torch.zeros(sum(r.shape), sum(r.shape), dtype=torch.double)
    for u, i in torch.nonzero(torch.as_tensor(r)).tolist():
        a[u, n_users + i] = a[n_users + i, u] = 1 / np.sqrt((r[u] > 0).sum() * (r[:, i] > 0).sum())
    return a


def sym_adjacency(model, train):
    """D^-1/2 A D^-1/2, without self loops."""
    n = model.n_users
    r = train._dataset.inter_matrix(form="csr").toarray()
    a = np.zeros((n + model.n_items, n + model.n_items))
    a[:n, n:], a[n:, :n] = r, r.T
    degree = a.sum(axis=1)
    scale = np.where(degree > 0, 1 / np.sqrt(np.maximum(degree, 1)), 0)
    return scale[:, None] * a * scale


def light_gcn(a, model, n_layers):
    """The mean of all layers by dense products, float64; users and items."""
    x = torch.cat([model.user_embedding.weight, model.item_embedding.weight]).double()
    layers = [x]
    for _ in range(n_layers):
        layers.append(a @ layers[-1])
    return torch.stack(layers).mean(0).split([model.n_users, model.n_items])


def layer_mean(adjacency, x, n_layers):
    """The mean of the layers 0 .. n of A^l x."""
    layers = [x]
    for _ in range(n_layers):
        layers.append(adjacency @ layers[-1])
    return sum(layers) / len(layers)


def nearest(features, k):
    """0/1 matrix of every item's k nearest by cosine, itself included; nothing for and to the padding row 0."""
    out = torch.zeros(len(features), len(features), dtype=torch.double)
    unit = F.normalize(features.double(), dim=1)
    for i in range(1, len(features)):
        similarity = unit @ unit[i]
        similarity[0], similarity[i] = -2, 2
        out[i, similarity.topk(k).indices] = 1
    return out


def knn_reference(features, k):
    """normalize(kNN(cos)): the k largest of every row, itself one of them, row degrees on both sides; no edge at padding."""
    x = np.asarray(features, dtype=np.float64)[1:]
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosine = x @ x.T
    kept = np.zeros_like(cosine)
    for i, row in enumerate(cosine):
        best = np.argsort(-row)[:k]
        kept[i, best] = row[best]
    degree = kept.sum(axis=1)
    out = np.zeros((len(x) + 1, len(x) + 1))
    out[1:, 1:] = kept / np.sqrt(np.outer(degree, degree))
    return out


def by_name(losses):
    """NamedLosses as a dict, without gradient."""
    return dict(zip(losses.names, (x.detach() for x in losses), strict=True))


def losses_of(model, batch):
    """The terms of a batch by name, with their gradient."""
    terms = model.calculate_loss(batch)
    return dict(zip(terms.names, terms, strict=True))


def bpr_loop(users, positives, negatives):
    """-mean log sigmoid(u i - u j), a row at a time."""
    total = 0.0
    for u, i, j in zip(users, positives, negatives, strict=True):
        total = total - torch.log(torch.sigmoid((u * i).sum() - (u * j).sum()))
    return total / len(users)


def nce(x, y, t):
    """-mean_b log [exp(cos(x_b, y_b) / t) / sum_b' exp(cos(x_b, y_b') / t)]."""
    logits = unit(x) @ unit(y).T / t
    return -np.mean([row[b] - np.log(np.exp(row).sum()) for b, row in enumerate(logits)])


def naive_kernel(x, sigma2):
    unit = [row / np.linalg.norm(row) for row in x]
    return np.array([[np.exp(-np.sum((a - b) ** 2) / (2 * sigma2)) for b in unit] for a in unit])


def naive_hsic(x, y, sigma2):
    """The double sum: (n-1)^-2 sum_ij Kx_ij (H Ky H)_ij, H written out."""
    n = len(x)
    kx, ky = naive_kernel(x, sigma2), naive_kernel(y, sigma2)
    h = np.eye(n) - np.ones((n, n)) / n
    return np.trace(kx @ h @ ky @ h) / (n - 1) ** 2
