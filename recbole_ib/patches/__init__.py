"""What RecBole does otherwise while this package is imported: compatibility, data, evaluation, kernels."""
