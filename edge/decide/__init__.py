"""From scores to one verdict per part: rule, gate, aggregation."""
