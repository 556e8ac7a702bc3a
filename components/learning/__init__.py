"""What users' reactions and annotators' labels teach: from events to the samples of the next data version."""
