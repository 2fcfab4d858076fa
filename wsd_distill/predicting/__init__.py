"""Prediction of many photos: sources, the loop, part files and formats of results."""
