"""What a training would make of a user's source, by the code of the stages and without their outputs."""
