"""Which samples to label next, and when to stop: active learning on arrays. Knows no model, file or Label Studio."""
