"""W3C Trace Context and Baggage: headers in, a context out, and the reverse."""
