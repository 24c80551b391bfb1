"""Each kind of work: its data, its model, its main loss and its evaluation."""
