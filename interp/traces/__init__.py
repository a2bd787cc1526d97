"""The traces: each room asks two models, or two texts, one kind of question."""
