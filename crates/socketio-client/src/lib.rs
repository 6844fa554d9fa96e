//! A Socket.IO client for Engine.IO 3 and 4, made for thousands of connections in one process.
