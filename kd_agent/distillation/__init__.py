"""The loop: collect, aggregate, fit, evaluate, save."""
