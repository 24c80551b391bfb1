"""What the notebooks call: predict, check, exercise, figures, and the pages made of them."""
