"""Fine-tuning: losses, policies of what learns, LoRA, recipes and the loop."""
