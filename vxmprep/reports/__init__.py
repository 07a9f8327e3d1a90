"""What a run says about itself: methods text with its references."""
