"""What a conversation does, without a widget: asking, keeping, going on, branching."""
