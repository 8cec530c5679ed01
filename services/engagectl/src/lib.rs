//! engagectl
