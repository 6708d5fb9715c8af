"""What a trained model is used for: recommendations, similar items, embeddings."""
