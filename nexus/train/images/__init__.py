"""Fine-tuning on images: what is drawn, prompted and measured."""
