"""What a model takes to train and to serve: memory, time, and where it fits."""
