"""Measuring joins everything: a model's weights or the running model, relations and scoring become an atlas."""
