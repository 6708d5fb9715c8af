"""Many runs, and looking into trained ones: planted irrelevance, injected noise, probes, decomposition, plots."""
