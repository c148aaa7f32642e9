"""Item features in Feast: price, category, stock, and seven days of impressions and clicks."""
