"""The assessment process: features of every stay, scores on time, the ladder."""
