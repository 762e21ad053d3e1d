"""What is measured, as ratios against a stated baseline."""
