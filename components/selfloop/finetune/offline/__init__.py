"""What learns from given data: examples, pairs, a teacher; and small policies from nothing."""
