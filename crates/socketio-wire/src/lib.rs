//! Engine.IO 3/4, Socket.IO 4/5 packets and WebSocket frames, to bytes and back.
