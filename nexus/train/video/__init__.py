"""Fine-tuning on videos: clips, their prompts, and the pass over them."""
