"""The language of llama-server: what is asked at each path, in which words, and how its streams end. Pure."""
