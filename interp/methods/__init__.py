"""What makes a tuned model: fine-tuning, editing and steering."""
