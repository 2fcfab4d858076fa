"""The paper's tables: which runs they take, what makes these runs, and what the paper and they say."""
