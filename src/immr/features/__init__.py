"""Entity features of items in Feast: price, category, and what shoppers did in seven days."""
