"""What single heads do, told to people: descriptions by rules, cards, and heads found by what they map."""
