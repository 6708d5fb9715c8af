"""Sparse graphs in pure torch and scipy: adjacency, item-item neighbours, propagation."""

from recbole_ib.graph.adjacency import user_item_adjacency
from recbole_ib.graph.item_graph import FrozenItemGraph, LearnedItemGraph, ModalityWeights
from recbole_ib.graph.knn import cosine_knn, top_k_per_row
from recbole_ib.graph.propagation import EdgeGraph, EdgeStructure, SparseMatrix, mean_propagation
from recbole_ib.graph.sampling import degree_sensitive_edges

__all__ = [
    "EdgeGraph",
    "EdgeStructure",
    "FrozenItemGraph",
    "LearnedItemGraph",
    "ModalityWeights",
    "SparseMatrix",
    "cosine_knn",
    "degree_sensitive_edges",
    "mean_propagation",
    "top_k_per_row",
    "user_item_adjacency",
]
