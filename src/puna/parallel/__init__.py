"""Training by several ranks: who holds which part of a model, and what they exchange."""
