"""What comes in: the table contract, named data sets, image reading, click simulation, the training set."""
