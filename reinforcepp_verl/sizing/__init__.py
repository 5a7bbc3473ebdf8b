"""What a configuration will cost, worked out without a GPU: the work of one step, and the memory of one GPU."""
