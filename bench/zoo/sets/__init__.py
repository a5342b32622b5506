"""Data sets read from the folders that their makers' archives unpack to; one file for each set.

Every reader takes the folder that holds the unpacked archive and returns uint8 images [N, H, W, 3] as RGB with int64 labels [N], for
training and for testing. What is missing or not as expected is told as a ValueError in one sentence.
"""
