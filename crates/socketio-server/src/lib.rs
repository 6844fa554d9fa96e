//! Socket.IO transports and sessions for a server; knows no chat.
