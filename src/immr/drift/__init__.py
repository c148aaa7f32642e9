"""Is what comes in still what the model learned from?"""
