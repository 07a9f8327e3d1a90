"""The dataset read and the derivatives written, in BIDS's terms."""
