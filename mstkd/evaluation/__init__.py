"""Scores of pairs to accuracies, fairness and their uncertainty."""
