"""Network definitions (torch), shared by training and the torch runtime."""
