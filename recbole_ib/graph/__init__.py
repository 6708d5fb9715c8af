"""Sparse graphs in pure torch and scipy: adjacency, item-item neighbors, propagation."""

from recbole_ib.graph.adjacency import normalize_by_row_degree, user_item_adjacency
from recbole_ib.graph.attention import edge_scores, edge_softmax
from recbole_ib.graph.interest import interest_item_graphs, second_order_interactions
from recbole_ib.graph.item_graph import ConstantGraph, FrozenItemGraph, LearnedItemGraph, ModalityWeights
from recbole_ib.graph.knn import EXACT_LIMIT, KNN_SEARCHES, cosine_knn, top_k_per_row
from recbole_ib.graph.propagation import EdgeGraph, EdgeStructure, SparseMatrix, mean_propagation
from recbole_ib.graph.sampling import degree_sensitive_edges
from recbole_ib.graph.user_graph import neighbor_weights, user_co_occurrence

__all__ = [
    "EXACT_LIMIT",
    "KNN_SEARCHES",
    "ConstantGraph",
    "EdgeGraph",
    "EdgeStructure",
    "FrozenItemGraph",
    "LearnedItemGraph",
    "ModalityWeights",
    "SparseMatrix",
    "cosine_knn",
    "degree_sensitive_edges",
    "edge_scores",
    "edge_softmax",
    "interest_item_graphs",
    "mean_propagation",
    "neighbor_weights",
    "normalize_by_row_degree",
    "second_order_interactions",
    "top_k_per_row",
    "user_co_occurrence",
    "user_item_adjacency",
]
