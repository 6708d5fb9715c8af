"""One file per recommender; every model composes the graphs and bottlenecks of the floors below."""
