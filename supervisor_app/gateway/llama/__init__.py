"""What llama-server is asked and says: at which path, in which words, and how its streams end. Pure."""
