"""What finding the best learning rate costs: methods on surfaces whose least value is known, and on our own runs."""
