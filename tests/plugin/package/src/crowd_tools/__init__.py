"""A method, a layout and a fusion for mrprism, in a package of their own."""
