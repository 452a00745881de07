"""What methods are built of: encoders, decoders, attention, and the two halves of MrPrism."""
