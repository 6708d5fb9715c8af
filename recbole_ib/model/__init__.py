"""One file a recommender; every model composes the graphs and bottlenecks of the floors below."""
