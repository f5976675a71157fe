"""The selectors; ``selfloop.filter.selecting`` says what one is."""
