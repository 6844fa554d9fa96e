//! dna: a location-based real-time chat server.
