"""What executes a network on a device: one network, numpy in, numpy out."""
