"""Building blocks with weights: image encoders, prompt encoder, mask decoder."""
