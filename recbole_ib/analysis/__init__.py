"""Read-outs of trained models: their shares per modality and the information plane."""
