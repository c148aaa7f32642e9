"""Features in Feast: of items (price, stock, seven days of impressions and clicks), and of users (recent clicks)."""
