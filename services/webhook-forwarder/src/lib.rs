//! webhook-forwarder
