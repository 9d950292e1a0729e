"""What figures of a report are drawn with: numbers in, HTML out, in the colours of the page."""
