"""Tests, floor by floor like the house. Answers are worked out apart from the code; laws hold for every member."""
