"""The lessons' side of the lab: predict, check, exercise, figures, and the pages made of them."""
